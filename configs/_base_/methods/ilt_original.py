"""ILT with the weights of its paper: Michieli and Zanuttigh, ICCV workshops 2019.

Distillation of the output with weight 1, a sum over classes with the student's
softmax over all of its classes, a mean over the pixels that are labelled with
the background or an old class (LTTM/IL-SemSegm, codes/LD1,
model_with_distillation.py, distillation_loss, applied to 'old_bgr'), and of the
encoder's output with weight 50. The cross-entropy is a mean over the pixels
that are not ignored (network_loss, applied to 'all'). The paper reports the
distillations one at a time and finds no relevant gain in both; remove one of
the distillers for its single forms.
"""

method = dict(
    name='ilt',
    loss_decode=dict(type='PixelCrossEntropyLoss', loss_weight=1.0, avg_non_ignore=True),
    distillers=[
        dict(
            type='LogitDistiller',
            among='old',
            loss=dict(
                type='KnowledgeDistillationLoss', loss_weight=1.0, over_all=True, class_mean=False
            ),
        ),
        dict(
            type='FeatureDistiller',
            stage=-1,
            loss=dict(type='FeatureDistillationLoss', loss_weight=50.0),
        ),
    ],
    classifier_init='random',
)
