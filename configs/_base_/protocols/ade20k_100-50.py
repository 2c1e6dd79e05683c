"""Protocol ade20k_100-50: class-incremental, setting overlapped.

`python tools/protocols.py ade20k_100-50` prints its steps.
"""

protocol = dict(name='ade20k_100-50', setting='overlapped', preset='default')
