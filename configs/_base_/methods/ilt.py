"""ILT (Michieli and Zanuttigh, ICCV workshops 2019) in the form of fcdl94/MiB.

configs/ilt/README.md tells what is official and what is ours.
"""

method = dict(
    name='ilt',
    loss_decode=dict(type='PixelCrossEntropyLoss', loss_weight=1.0),
    distillers=[
        dict(
            type='LogitDistiller',
            loss=dict(type='KnowledgeDistillationLoss', loss_weight=100.0, alpha=1.0),
        ),
        dict(
            type='FeatureDistiller',
            stage=-1,
            loss=dict(type='FeatureDistillationLoss', loss_weight=100.0),
        ),
    ],
    classifier_init='random',
)
