"""As ade20k_star.py: the official schedule is that of STAR in either form."""

_base_ = './ade20k_star.py'
