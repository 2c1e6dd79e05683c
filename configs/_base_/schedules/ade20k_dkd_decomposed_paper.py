"""As ade20k_dkd_decomposed.py: the official schedule is that of decomposed KD in either form."""

_base_ = './ade20k_dkd_decomposed.py'
