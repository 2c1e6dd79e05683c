"""DFT*'s schedule for ADE20K: 30 epochs of lr 0.02 at step 0, then lr 0.1 (100-50, 100-10, 50-50).

Its official scripts (BladeDancer957/RevisitingCSS, scripts/RevisitingCSS).
"""

_base_ = './ade20k.py'
step_overrides = {0: dict(lr=0.02, max_epochs=30), 'later': dict(lr=0.1)}
