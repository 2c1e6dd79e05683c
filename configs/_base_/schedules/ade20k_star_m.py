"""As ade20k_star.py: exemplars do not change the official schedule."""

_base_ = './ade20k_star.py'
