"""Protocol voc_1-1: class-incremental, setting overlapped.

Step 0 is the background alone: it trains nothing and teaches nothing, but is evaluated (IoU
1) and counts in the average over steps. Entry 0 of step_overrides goes to step 1.

`python tools/protocols.py voc_1-1` prints its steps.
"""

protocol = dict(name='voc_1-1', setting='overlapped', preset='default')
