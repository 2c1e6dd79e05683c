"""MiB's weight of the distillation, which every official script has."""

method = dict(
    distillers=[
        dict(
            type='LogitDistiller',
            loss=dict(type='UnbiasedKnowledgeDistillationLoss', loss_weight=10.0, alpha=1.0),
        ),
        dict(
            type='DualTeacherDistiller',
            form='variational',
            loss_weight=1.0,
            old_on='replayed',
            optimizer=dict(type='Adam', lr=0.01),
        ),
    ]
)
