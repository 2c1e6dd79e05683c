"""Protocol voc_2-1: class-incremental, setting overlapped.

`python tools/protocols.py voc_2-1` prints its steps.
"""

protocol = dict(name='voc_2-1', setting='overlapped', preset='default')
