"""Protocol voc_1-1: class-incremental, setting overlapped.

`python tools/protocols.py voc_1-1` prints its steps.
"""
protocol = dict(name='voc_1-1', setting='overlapped', preset='default')
