"""CAF (Yang et al., TMM 2022) as released: MiB, and features and embeddings held to the teacher's.

configs/caf/README.md tells what is official and what is ours.
"""

_base_ = './mib.py'
method = dict(
    name='caf',
    distillers=[
        *_base_.method.distillers,
        dict(
            type='FeatureDistiller',
            stage=-1,
            loss=dict(type='FeatureDistillationLoss', loss_weight=1000.0),
        ),
        dict(
            type='FeatureDistiller',
            stage='embedding',
            loss=dict(
                type='FeatureDistillationLoss', loss_weight=1000.0, loss_name='loss_embedding'
            ),
        ),
    ],
)
