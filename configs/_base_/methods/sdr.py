"""SDR (Michieli and Zanuttigh, CVPR 2021) with MiB's losses; weights as --method SDR has them.

configs/sdr/README.md tells what is official and what is ours.
"""

method = dict(
    name='sdr',
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    distillers=[
        dict(
            type='LogitDistiller',
            loss=dict(type='UnbiasedKnowledgeDistillationLoss', loss_weight=100.0, alpha=1.0),
        ),
        dict(
            type='RepresentationDistiller',
            match_weight=0.01,
            attraction_weight=0.001,
            separation_weight=0.001,
            sparsity_weight=0.001,
            form='fixed',
        ),
    ],
    custom_hooks=[dict(type='PrototypesHook', form='fixed')],
)
