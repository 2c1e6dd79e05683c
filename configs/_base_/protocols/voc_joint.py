"""Protocol voc_joint: all classes at once, the upper bound.

`python tools/protocols.py voc_joint` prints its steps.
"""

protocol = dict(name='voc_joint', setting='overlapped', preset='default')
