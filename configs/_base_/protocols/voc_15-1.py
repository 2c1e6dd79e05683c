"""Protocol voc_15-1: class-incremental, setting overlapped.

`python tools/protocols.py voc_15-1` prints its steps.
"""

protocol = dict(name='voc_15-1', setting='overlapped', preset='default')
