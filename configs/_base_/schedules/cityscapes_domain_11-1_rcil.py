"""RCIL's schedule for Cityscapes by city, 11-1: lr 0.004 at later steps.

Its official script of 11-1 (zhangchbin/RCIL, scripts/cityscapesDomain); else as
cityscapes_domain_rcil.py.
"""

_base_ = './cityscapes_domain_rcil.py'
step_overrides = {'later': dict(lr=0.004)}
