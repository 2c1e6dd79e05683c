"""The factors of ../plop/ade20k.py, and UCD's contrast with its weight on MiB."""

_base_ = '../plop/ade20k.py'
method = dict(
    distillers=[
        *_base_.method.distillers,
        dict(type='PixelContrastDistiller', temperature=0.07, loss_weight=0.01),
    ]
)
