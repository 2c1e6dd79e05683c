"""LwF-MC, the row that papers also call iCaRL: sigmoid outputs, no exemplars.

configs/lwf_mc/README.md tells what is official and what is ours.
"""

method = dict(
    name='lwf_mc',
    loss_decode=dict(type='SigmoidCrossEntropyLoss', loss_weight=1.0),
    distillers=[
        dict(type='LogitDistiller', loss=dict(type='SigmoidDistillationLoss', loss_weight=10.0)),
    ],
    classifier_init='random',
)
