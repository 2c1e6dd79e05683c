"""VDFD beside MiB's unbiased cross-entropy and balanced initialisation; ours.

configs/vdfd/README.md tells what is official and what is ours.
"""

_base_ = './vdfd_plain.py'
method = dict(
    name='vdfd_unce',
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    regularisers=[dict(type='VDFDRegulariser', loss_weight=1.0)],
    classifier_init='balanced',
    custom_hooks=[dict(type='VDFDHook', rank=1, outputs='mean', background='exclude')],
)
