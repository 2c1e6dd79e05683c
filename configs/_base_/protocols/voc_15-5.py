"""Protocol voc_15-5: class-incremental, setting overlapped.

`python tools/protocols.py voc_15-5` prints its steps.
"""

protocol = dict(name='voc_15-5', setting='overlapped', preset='default')
