"""PLOP with the choices of arthurdouillard/CVPR2021_PLOP where ours differ.

configs/plop/README.md tells what is official and what is ours.
"""

_base_ = './plop.py'
method = dict(
    name='plop_paper',
    by_protocol='plop_paper',  # distillers
    loss_decode=dict(factor_without_background=0.0),
    custom_hooks=[
        dict(type='PseudoLabelThresholdsHook', base=0.001, median='official', crops='random')
    ],
)
