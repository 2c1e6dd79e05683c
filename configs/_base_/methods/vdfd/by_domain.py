"""VDFD where a step brings a new domain and no new class: the published method alone."""

method = dict(
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
