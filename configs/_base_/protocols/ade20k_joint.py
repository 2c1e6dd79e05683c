"""Protocol ade20k_joint: all classes at once, the upper bound.

`python tools/protocols.py ade20k_joint` prints its steps.
"""

protocol = dict(name='ade20k_joint', setting='overlapped', preset='default')
