"""RCIL's schedule for Cityscapes by class: lr 0.02 at step 0, else as cityscapes.py.

Its official script of 10-9 (zhangchbin/RCIL, scripts/cityscapeClL).
"""

_base_ = './cityscapes.py'
step_overrides = {0: dict(lr=0.02)}
