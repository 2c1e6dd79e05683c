"""LwF (Li and Hoiem, ECCV 2016) with the weight of fcdl94/MiB.

configs/lwf/README.md tells what is official and what is ours.
"""

method = dict(
    name='lwf',
    loss_decode=dict(type='PixelCrossEntropyLoss', loss_weight=1.0),
    distillers=[
        dict(
            type='LogitDistiller',
            loss=dict(type='KnowledgeDistillationLoss', loss_weight=100.0, alpha=1.0),
        ),
    ],
    classifier_init='random',
)
