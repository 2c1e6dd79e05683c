"""DFT*'s schedule for VOC: lr 0.02 at step 0, then 0.0005.

Its official scripts of 15-1 and 10-1 (BladeDancer957/RevisitingCSS, scripts/RevisitingCSS); that
further protocols have it is our choice.
"""

_base_ = './voc.py'
step_overrides = {0: dict(lr=0.02), 'later': dict(lr=0.0005)}
