"""LGKD (Yang et al., ICCV 2023) on PLOP, as in the paper; its weights lie in lgkd/, by protocol.

configs/lgkd/README.md tells what is official and what is ours.
"""

_base_ = './plop.py'
method = dict(name='lgkd', by_protocol='lgkd')  # distillers
