"""ILT: Michieli and Zanuttigh, "Incremental Learning Techniques for Semantic
Segmentation", ICCV workshops 2019, in the form of fcdl94/MiB.

Cross-entropy on the step's labels, distillation of the old classes'
probabilities with weight 100 and mean squared distance of the backbone's
output with weight 100 (argparser.py, method ILT: loss_kd 100, loss_de 100). This
is the form behind the ILT rows of the MiB, PLOP and RCIL tables; the weights
of the original paper are in `ilt_original.py`.
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
