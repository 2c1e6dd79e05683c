"""VDFD where a step brings a new domain and no new class: a small weight, and fused weights. Ours.

Half of the weights after a step and half of those before it are kept (EWF's fusion, Xiao et al.,
CVPR 2023, with a factor that no number of classes gives here), before the gradients are taken.
docs/results.md has the comparison. The published method alone is ``vdfd_plain``.
"""

method = dict(
    regularisers=[
        dict(
            type='VDFDRegulariser',
            loss_weight=0.1,
            eps=1e-3,
            optimizer=dict(type='Adam', lr=5e-4, weight_decay=5e-4),
        )
    ],
    classifier_init='random',
    custom_hooks=[
        dict(type='EWFHook', factor=0.5),
        dict(type='VDFDHook', rank=1, outputs='mean', background='keep'),
    ],
)
