"""LwF: Li and Hoiem, "Learning without Forgetting", ECCV 2016, as segmentation papers run it.

Cross-entropy on the step's labels plus distillation of the probabilities of the
old classes, a mean over these classes and all pixels. The weight 100 is that of
fcdl94/MiB (argparser.py, method LWF: loss_kd 100). A domain-incremental walk
distils all classes with the same weight.
"""

method = dict(
    name='lwf',
    loss_decode=dict(type='PixelCrossEntropyLoss', loss_weight=1.0),
    distillers=[
        dict(
            type='LogitDistiller',
            loss=dict(type='KnowledgeDistillationLoss', loss_weight=100.0, alpha=1.0),
        ),
    ],
    classifier_init='random',
)
