"""RCIL's schedule for VOC: lr 0.02 at step 0, else as voc.py.

Its official scripts (zhangchbin/RCIL, scripts/voc).
"""

_base_ = './voc.py'
step_overrides = {0: dict(lr=0.02)}
