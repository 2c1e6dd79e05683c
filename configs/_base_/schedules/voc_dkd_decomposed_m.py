"""As voc_dkd_decomposed.py: exemplars do not change the official schedule."""

_base_ = './voc_dkd_decomposed.py'
