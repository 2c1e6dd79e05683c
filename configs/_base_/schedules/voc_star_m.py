"""As voc_star.py: exemplars do not change the official schedule."""

_base_ = './voc_star.py'
