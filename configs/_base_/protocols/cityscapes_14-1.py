"""Protocol cityscapes_14-1: class-incremental, setting overlapped.

`python tools/protocols.py cityscapes_14-1` prints its steps.
"""

protocol = dict(name='cityscapes_14-1', setting='overlapped', preset='default')
