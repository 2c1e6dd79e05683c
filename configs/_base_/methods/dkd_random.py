"""DKD with one random group in every iteration (RDKD; Shi et al., 2024).

configs/dkd/README.md tells what is official and what is ours.
"""

_base_ = './dkd.py'
method = dict(
    name='dkd_random',
    distillers=[
        dict(
            type='LogitDistiller',
            loss=dict(
                type='DenseKnowledgeDistillationLoss',
                loss_weight=1.0,
                pool='all_subsets',
                groups='random',
                background='merged',
                weighting='counts_and_similarity',
            ),
        ),
    ],
)
