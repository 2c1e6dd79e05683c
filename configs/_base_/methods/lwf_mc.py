"""LwF-MC, the row that papers also call iCaRL: sigmoid outputs, no exemplars.

Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning",
CVPR 2017, where LwF-MC is iCaRL's network without its exemplars. Binary
cross-entropy of every class on the step's labels, summed over classes, plus
binary cross-entropy of the old outputs with the teacher's sigmoid, summed over
the old classes, times 10: fcdl94/MiB argparser.py, method LWF-MC
(icarl_importance 10), and train.py, the combined form.

Its step 0 is trained with the sigmoid loss too: a step 0 that another method
trained with a softmax (`--start-from`) leaves a teacher whose sigmoids mean
little.
"""

method = dict(
    name='lwf_mc',
    loss_decode=dict(type='SigmoidCrossEntropyLoss', loss_weight=1.0),
    distillers=[
        dict(type='LogitDistiller', loss=dict(type='SigmoidDistillationLoss', loss_weight=10.0)),
    ],
    classifier_init='random',
)
