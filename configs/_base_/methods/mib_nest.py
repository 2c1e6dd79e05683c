"""MiB, its new rows pre-tuned before each step (NeST: Xie et al., ECCV 2024).

configs/mib_nest/README.md tells what is official and what is ours.
"""

_base_ = './mib.py'
method = dict(name='mib_nest', by_protocol='mib_nest')  # sub_steps
