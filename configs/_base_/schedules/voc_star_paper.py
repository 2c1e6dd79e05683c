"""As voc_star.py: the official schedule is that of STAR in either form."""

_base_ = './voc_star.py'
