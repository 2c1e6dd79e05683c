"""DKD, full form (FDKD): softmaxes inside groups of earlier steps (Shi et al., 2024).

configs/dkd/README.md tells what is official and what is ours.
"""

method = dict(
    name='dkd',
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    distillers=[
        dict(
            type='LogitDistiller',
            loss=dict(
                type='DenseKnowledgeDistillationLoss',
                loss_weight=1.0,
                pool='all_subsets',
                groups='all',
                background='merged',
                weighting='counts_and_similarity',
            ),
        ),
    ],
    classifier_init='balanced',
)
