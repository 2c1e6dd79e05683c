"""Protocol cityscapes_10-9: class-incremental, setting overlapped.

`python tools/protocols.py cityscapes_10-9` prints its steps.
"""

protocol = dict(name='cityscapes_10-9', setting='overlapped', preset='default')
