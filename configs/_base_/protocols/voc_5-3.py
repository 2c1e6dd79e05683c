"""Protocol voc_5-3: class-incremental, setting overlapped.

`python tools/protocols.py voc_5-3` prints its steps.
"""

protocol = dict(name='voc_5-3', setting='overlapped', preset='default')
