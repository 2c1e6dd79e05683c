"""DKD with one random group in every iteration (RDKD); see dkd.py for what is published.

The group is drawn uniformly from the whole pool, however large it is, the same on
all ranks and after resuming. In the mean over iterations it is the full form.
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
