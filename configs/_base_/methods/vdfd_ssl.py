"""VDFD with self-supervision by rotation (label augmentation), as in its paper.

configs/vdfd/README.md tells what is official and what is ours.
"""

_base_ = './vdfd_plain.py'
method = dict(
    name='vdfd_ssl', self_supervision=dict(type='RotationSelfSupervision', rotations='all')
)
