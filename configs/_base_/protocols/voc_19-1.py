"""Protocol voc_19-1: class-incremental, setting overlapped.

`python tools/protocols.py voc_19-1` prints its steps.
"""

protocol = dict(name='voc_19-1', setting='overlapped', preset='default')
