"""PLOP and EWF (Xiao et al., CVPR 2023): frozen old rows, and weights fused after each step.

configs/mib_ewf/README.md tells what is official and what is ours.
"""

_base_ = './plop.py'
method = dict(
    name='plop_ewf',
    freezing=dict(old_rows=True),
    custom_hooks=[*_base_.method.get('custom_hooks', ()), dict(type='EWFHook')],
)
