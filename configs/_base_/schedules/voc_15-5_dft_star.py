"""DFT*'s schedule for VOC 15-5: lr 0.02 at all steps.

Its official scripts (BladeDancer957/RevisitingCSS, scripts/RevisitingCSS).
"""

_base_ = './voc.py'
step_overrides = {0: dict(lr=0.02), 'later': dict(lr=0.02)}
