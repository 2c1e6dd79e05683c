"""iCaRL: LwF-MC and exemplars chosen by herding (Rebuffi et al., CVPR 2017).

configs/icarl/README.md tells what is official and what is ours.
"""

method = dict(
    name='icarl',
    by_protocol='icarl',  # memory.budget
    loss_decode=dict(type='SigmoidCrossEntropyLoss', loss_weight=1.0),
    distillers=[
        dict(type='LogitDistiller', loss=dict(type='SigmoidDistillationLoss', loss_weight=10.0)),
    ],
    classifier_init='random',
    memory=dict(per='total', selection='herding', labels='at_replay'),
)
