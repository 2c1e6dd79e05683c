"""Protocol voc_10-5: class-incremental, setting overlapped.

`python tools/protocols.py voc_10-5` prints its steps.
"""

protocol = dict(name='voc_10-5', setting='overlapped', preset='default')
