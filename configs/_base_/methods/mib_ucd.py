"""MiB and the contrast of UCD (Yang et al., TPAMI 2022).

configs/mib_ucd/README.md tells what is official and what is ours.
"""

_base_ = './mib.py'
method = dict(
    name='mib_ucd',
    distillers=[
        *_base_.method.distillers,
        dict(type='PixelContrastDistiller', temperature=0.07, loss_weight=0.01),
    ],
)
