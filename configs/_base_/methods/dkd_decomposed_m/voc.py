"""Decomposed KD's budget of images on VOC (official scripts), beside its weights of positives."""

_base_ = '../dkd_decomposed/voc.py'
method = dict(memory=dict(budget=100))
