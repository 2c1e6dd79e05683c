"""VDFD (Li et al., TPAMI 2023): gradients of mean outputs and a learnt covariance.

configs/vdfd/README.md tells what is official and what is ours.
"""

method = dict(
    name='vdfd',
    regularisers=[
        dict(
            type='VDFDRegulariser',
            loss_weight=10.0,
            eps=1e-3,
            optimizer=dict(type='Adam', lr=5e-4, weight_decay=5e-4),
        )
    ],
    classifier_init='random',
    custom_hooks=[dict(type='VDFDHook', rank=1, outputs='mean', background='keep')],
)
