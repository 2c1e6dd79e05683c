"""PLOP, its new rows pre-tuned before each step (NeST: Xie et al., ECCV 2024).

configs/mib_nest/README.md tells what is official and what is ours.
"""

_base_ = './plop.py'
method = dict(name='plop_nest', by_protocol='plop_nest')  # distillers, sub_steps, freezing
