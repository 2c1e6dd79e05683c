"""RCIL's distillation on VOC (official scripts); ours where none is published."""

method = dict(
    distillers=[
        dict(
            type='LogitDistiller',
            loss=dict(type='UnbiasedKnowledgeDistillationLoss', loss_weight=100.0, alpha=1.0),
        ),
        dict(
            type='PooledCubeDistiller',
            factor=0.01,
            last_factor=5e-4,
            channel_factor=0.01,
            channel_last_factor=5e-4,
        ),
    ]
)
