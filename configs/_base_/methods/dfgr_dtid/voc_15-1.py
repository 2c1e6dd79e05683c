"""The distillation weighs 100 on VOC 15-1, as issues 22 and 24 of fcdl94/MiB tell of MiB."""

method = dict(
    distillers=[
        dict(
            type='LogitDistiller',
            loss=dict(type='UnbiasedKnowledgeDistillationLoss', loss_weight=100.0, alpha=1.0),
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
