"""PLOP's schedule for VOC 10-1: 10 epochs at each later step, else as voc.py.

Its official script of 10-1 (arthurdouillard/CVPR2021_PLOP); step 0 takes 30 epochs.
"""

_base_ = './voc.py'
step_overrides = {'later': dict(max_epochs=10)}
