"""Protocol ade20k_100-10: class-incremental, setting overlapped.

`python tools/protocols.py ade20k_100-10` prints its steps.
"""

protocol = dict(name='ade20k_100-10', setting='overlapped', preset='default')
