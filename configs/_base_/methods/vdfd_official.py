"""VDFD as the official class-incremental code computes it; it needs Adam.

configs/vdfd/README.md tells what is official and what is ours.
"""

_base_ = './vdfd_plain.py'
method = dict(
    name='vdfd_official',
    loss_decode=dict(type='StepClassesCrossEntropyLoss', loss_weight=1.0),
    regularisers=[
        dict(
            type='VDFDRegulariser',
            loss_weight=50.0,
            eps=1e-3,
            quadratic='official',
            accumulation='official_class_incremental',
            damping=0.0,
            covariance=dict(residual=True),
            optimizer=dict(type='Adam', lr=1e-4, weight_decay=5e-4),
        )
    ],
    custom_hooks=[
        dict(type='VDFDHook', rank=1, weighting='batches', max_images=None, classifier=False)
    ],
)
