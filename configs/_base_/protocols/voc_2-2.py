"""Protocol voc_2-2: class-incremental, setting overlapped.

`python tools/protocols.py voc_2-2` prints its steps.
"""

protocol = dict(name='voc_2-2', setting='overlapped', preset='default')
