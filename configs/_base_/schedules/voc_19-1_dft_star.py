"""DFT*'s schedule for VOC 19-1: lr 0.02 at step 0, then 0.005.

Its official scripts (BladeDancer957/RevisitingCSS, scripts/RevisitingCSS).
"""

_base_ = './voc.py'
step_overrides = {0: dict(lr=0.02), 'later': dict(lr=0.005)}
