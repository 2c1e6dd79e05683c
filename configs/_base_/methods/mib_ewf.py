"""MiB and EWF's fusion of each step's weights (Xiao et al., CVPR 2023)."""

_base_ = './mib.py'
method = dict(
    name='mib_ewf',
    custom_hooks=[*_base_.method.get('custom_hooks', ()), dict(type='EWFHook')],
)
