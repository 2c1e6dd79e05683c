"""VDFD where labels hide old classes: the recipe that did best on real images. Ours.

MiB's unbiased cross-entropy and balanced initialisation, the penalty re-anchored to it, over
all classes seen, at weight 100; norm statistics of the head held still; EWF's fusion after each
step; a hinge that keeps new rows below each earlier class at the centres of 8 clusters of that
class's embeddings, and below the background at those of 32; new rows at six times the rate.
docs/results.md has the comparison and what each part is worth.
"""

method = dict(
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    regularisers=[
        dict(
            type='VDFDRegulariser',
            loss_weight=100.0,
            reanchor=True,
            eps=1e-3,
            optimizer=dict(type='Adam', lr=5e-4, weight_decay=5e-4),
        ),
        dict(
            type='HingeRegulariser',
            loss_weight=0.3,
            margin=1.0,
            background=True,
            against='greatest',
        ),
    ],
    classifier_init='balanced',
    freezing=dict(norm_statistics=['decode_head']),
    custom_hooks=[
        dict(type='EWFHook'),
        dict(type='VDFDHook', rank=1, outputs='mean', nodes='all', background='keep'),
        dict(type='ClassMeansHook', background=32, foreground=8),
        dict(type='RowRateHook', factor=6.0),
    ],
)
