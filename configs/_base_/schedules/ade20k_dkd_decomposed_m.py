"""As ade20k_dkd_decomposed.py: exemplars do not change the official schedule."""

_base_ = './ade20k_dkd_decomposed.py'
