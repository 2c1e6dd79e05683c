"""RCIL's distillation on ADE20K (official scripts)."""

method = dict(
    distillers=[
        dict(
            type='LogitDistiller',
            loss=dict(type='UnbiasedKnowledgeDistillationLoss', loss_weight=100.0, alpha=1.0),
        ),
        dict(
            type='PooledCubeDistiller',
            factor=5e-6,
            last_factor=5e-7,
            channel_factor=5e-6,
            channel_last_factor=5e-7,
        ),
    ]
)
