"""Decomposed KD's budget of images on ADE20K (official scripts), and its weights of positives."""

_base_ = '../dkd_decomposed/ade20k.py'
method = dict(memory=dict(budget=300))
