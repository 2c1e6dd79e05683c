"""STAR on voc_15-1, a template: as --method star --protocol voc_15-1."""

_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/methods/star.py',
    '../_base_/schedules/voc_star.py',
    '../_base_/default_runtime.py',
]
protocol = dict(name='voc_15-1', setting='overlapped', preset='default')
