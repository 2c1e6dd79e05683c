"""ILT with the weights of its paper (Michieli and Zanuttigh, ICCV workshops 2019).

configs/ilt/README.md tells what is official and what is ours.
"""

method = dict(
    name='ilt',
    loss_decode=dict(type='PixelCrossEntropyLoss', loss_weight=1.0, avg_non_ignore=True),
    distillers=[
        dict(
            type='LogitDistiller',
            among='old',
            loss=dict(
                type='KnowledgeDistillationLoss', loss_weight=1.0, over_all=True, class_mean=False
            ),
        ),
        dict(
            type='FeatureDistiller',
            stage=-1,
            loss=dict(type='FeatureDistillationLoss', loss_weight=50.0),
        ),
    ],
    classifier_init='random',
)
