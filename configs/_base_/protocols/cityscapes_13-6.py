"""Protocol cityscapes_13-6: class-incremental, setting overlapped.

`python tools/protocols.py cityscapes_13-6` prints its steps.
"""

protocol = dict(name='cityscapes_13-6', setting='overlapped', preset='default')
