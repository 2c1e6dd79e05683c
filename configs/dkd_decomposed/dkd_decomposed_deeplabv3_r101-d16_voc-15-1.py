"""Decomposed KD on voc_15-1, a template: as --method dkd_decomposed --protocol voc_15-1."""

_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/methods/dkd_decomposed.py',
    '../_base_/schedules/voc_dkd_decomposed.py',
    '../_base_/default_runtime.py',
]
protocol = dict(name='voc_15-1', setting='overlapped', preset='default')
