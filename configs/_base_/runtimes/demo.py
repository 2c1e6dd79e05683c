"""The demo's runtime, taken with the schedule of this name: it saves its state more often."""

_base_ = '../default_runtime.py'
default_hooks = dict(checkpoint=dict(interval=100))
