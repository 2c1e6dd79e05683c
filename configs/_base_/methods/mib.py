"""MiB (Cermelli et al., CVPR 2020; fcdl94/MiB); --method MiB of every script has weight 10.

configs/mib/README.md tells what is official and what is ours.
"""

method = dict(
    name='mib',
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    distillers=[
        dict(
            type='LogitDistiller',
            loss=dict(type='UnbiasedKnowledgeDistillationLoss', loss_weight=10.0, alpha=1.0),
        ),
    ],
    classifier_init='balanced',
)
