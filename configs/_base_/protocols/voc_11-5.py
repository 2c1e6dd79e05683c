"""Protocol voc_11-5: class-incremental, setting overlapped.

`python tools/protocols.py voc_11-5` prints its steps.
"""

protocol = dict(name='voc_11-5', setting='overlapped', preset='default')
