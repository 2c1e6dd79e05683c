"""MiB: Cermelli et al., "Modeling the Background for Incremental Learning in Semantic
Segmentation", CVPR 2020; official code fcdl94/MiB.

Three parts: cross-entropy in which "background" may be any hidden old class
(equation 5); distillation in which the teacher's background teaches background
and new classes (equations 7, 8); new classifier rows that share the
background's row and mass (equations 9, 10).

The distillation weight is 10 under every protocol: --method MiB sets it (argparser.py
of fcdl94/MiB and of arthurdouillard/CVPR2021_PLOP), also in the script of 15-1
(scripts/voc/mib_15-1.sh of the latter). fcdl94/MiB issues 22 and 24 tell of 100 on
VOC 15-1, which no script has: --cfg-options method.distillers.0.loss.loss_weight=100.
In a domain-incremental walk no class hides and none is new, so that the same
config is cross-entropy plus ordinary distillation with weight 10: what the
PLOP and RCIL scripts call MiB on Cityscapes by city.

With an exemplar memory (method.memory), which the paper has not, the labels of
exemplars are complete: on them the cross-entropy is the ordinary one, and the
distillation is as on other images.
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
