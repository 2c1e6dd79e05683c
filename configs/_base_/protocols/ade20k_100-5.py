"""Protocol ade20k_100-5: class-incremental, setting overlapped.

`python tools/protocols.py ade20k_100-5` prints its steps.
"""

protocol = dict(name='ade20k_100-5', setting='overlapped', preset='default')
