"""The factors of ../plop/default.py, and UCD's contrast with its weight on MiB."""

_base_ = '../plop/default.py'
method = dict(
    distillers=[
        *_base_.method.distillers,
        dict(type='PixelContrastDistiller', temperature=0.07, loss_weight=0.01),
    ]
)
