"""Protocol voc_11-1: class-incremental, setting overlapped.

`python tools/protocols.py voc_11-1` prints its steps.
"""

protocol = dict(name='voc_11-1', setting='overlapped', preset='default')
