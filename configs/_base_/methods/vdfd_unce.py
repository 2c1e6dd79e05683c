"""VDFD beside MiB's unbiased cross-entropy and balanced initialisation: no old network, either.

For class-incremental walks whose labels hide old classes in the background.
The regulariser holds the mean outputs, plain cross-entropy meanwhile teaches
that pixels of old classes are background; the unbiased one (mib.py, equations 5,
9 and 10 there) does not. A combination of ours: the publication has none.

The background is no node (background='exclude'): balanced initialisation shares its mass
with the new classes, which lowers its mean logit, and the regulariser would pull that up
again, away from the new classes, from the first iteration on.
"""

_base_ = './vdfd.py'
method = dict(
    name='vdfd_unce',
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    regularisers=[dict(type='VDFDRegulariser', loss_weight=1.0)],
    classifier_init='balanced',
    custom_hooks=[dict(type='VDFDHook', rank=1, outputs='mean', background='exclude')],
)
