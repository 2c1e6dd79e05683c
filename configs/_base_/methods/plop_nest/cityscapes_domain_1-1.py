"""PLOP's factors on Cityscapes by city, where no class is new to NeST."""

_base_ = '../plop/cityscapes_domain_1-1.py'
method = dict(sub_steps=[dict(type='PreTuneClassifier')])
