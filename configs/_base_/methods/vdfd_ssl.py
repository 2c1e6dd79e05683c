"""VDFD with self-supervision by rotation (label augmentation), as in its paper.

Every image is trained on in all four turns, four times the batch, and every
class as four (XiaorongLi-95/VDFD, class_incremental/agent_ssl). Crops must be square.
rotations='random' turns each image once at random instead, which is our choice
and costs nothing but the larger classifier. Evaluation, the gradients that are
kept and the checkpoint of a step know turn 0 only.
"""

_base_ = './vdfd.py'
method = dict(
    name='vdfd_ssl', self_supervision=dict(type='RotationSelfSupervision', rotations='all')
)
