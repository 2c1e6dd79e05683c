"""RCIL's schedule for Cityscapes by city: lr 0.02 at step 0 and 0.002 later, else as cityscapes.py.

Its official scripts of 11-5 and 1-1 (zhangchbin/RCIL, scripts/cityscapesDomain).
"""

_base_ = './cityscapes.py'
step_overrides = {0: dict(lr=0.02), 'later': dict(lr=0.002)}
