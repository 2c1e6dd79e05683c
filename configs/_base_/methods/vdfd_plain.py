"""VDFD as published, with plain cross-entropy and nothing beside (Li et al., TPAMI 2023).

configs/vdfd/README.md tells what is official and what is ours.
"""

method = dict(
    name='vdfd_plain',
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
