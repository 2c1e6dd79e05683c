"""The plain VDFD and EWF's fusion of each step's weights (Xiao et al., CVPR 2023)."""

_base_ = './vdfd_plain.py'
method = dict(
    name='vdfd_ewf',
    custom_hooks=[*_base_.method.get('custom_hooks', ()), dict(type='EWFHook')],
)
