"""The plain VDFD and EWF (Xiao et al., CVPR 2023): frozen old rows, fused weights after each step.

configs/mib_ewf/README.md tells what is official and what is ours.
"""

_base_ = './vdfd_plain.py'
method = dict(
    name='vdfd_ewf',
    freezing=dict(old_rows=True),
    custom_hooks=[*_base_.method.get('custom_hooks', ()), dict(type='EWFHook')],
)
