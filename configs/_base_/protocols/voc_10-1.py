"""Protocol voc_10-1: class-incremental, setting overlapped.

`python tools/protocols.py voc_10-1` prints its steps.
"""

protocol = dict(name='voc_10-1', setting='overlapped', preset='default')
