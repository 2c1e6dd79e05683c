"""Protocol cityscapes_joint: all classes at once, the upper bound.

`python tools/protocols.py cityscapes_joint` prints its steps.
"""

protocol = dict(name='cityscapes_joint', setting='overlapped', preset='default')
