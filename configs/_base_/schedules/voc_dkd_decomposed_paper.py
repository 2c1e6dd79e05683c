"""As voc_dkd_decomposed.py: the official schedule is that of decomposed KD in either form."""

_base_ = './voc_dkd_decomposed.py'
