"""Taken with the schedule of this name, which is short: logs and saves more often."""

_base_ = '../default_runtime.py'
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=50))
