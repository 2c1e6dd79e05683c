"""PLOP and the contrast of UCD (Yang et al., TPAMI 2022); PLOP's factors lie in plop_ucd/.

configs/mib_ucd/README.md tells what is official and what is ours.
"""

_base_ = './plop.py'
method = dict(name='plop_ucd', by_protocol='plop_ucd')  # distillers
