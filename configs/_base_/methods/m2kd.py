"""M2KD: all earlier snapshots teach (Zhou et al., 2019); the formulation is ours.

configs/m2kd/README.md tells what is official and what is ours.
"""

method = dict(
    name='m2kd',
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    teachers='all',
    teacher_draw=None,
    distillers=[
        dict(
            type='M2KDDistiller',
            classes='new',
            loss=dict(type='MatchingDistillationLoss', loss_weight=1.0, temperature=1.0),
            auxiliary_loss=dict(
                type='MatchingDistillationLoss',
                loss_weight=0.4,
                temperature=1.0,
                loss_name='loss_ad',
            ),
        ),
    ],
    classifier_init='balanced',
)
