"""Joint training on voc_joint, a template: as --method joint --protocol voc_joint."""

_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/methods/joint.py',
    '../_base_/schedules/voc.py',
    '../_base_/default_runtime.py',
]
protocol = dict(name='voc_joint', setting='overlapped', preset='default')
