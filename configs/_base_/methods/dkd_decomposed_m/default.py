"""Decomposed KD's budget of images on VOC (official scripts); that others have it too is ours."""

_base_ = '../dkd_decomposed/default.py'
method = dict(memory=dict(budget=100))
