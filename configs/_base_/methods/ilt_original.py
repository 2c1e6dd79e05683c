"""ILT with the weights of its paper: Michieli and Zanuttigh, ICCV workshops 2019.

Distillation of the output with weight 1, a sum over classes with the student's
softmax over all of its classes (LTTM/IL-SemSegm, codes/LD1,
distillation_loss), and of the encoder's output with weight 50. The paper
reports them one at a time and finds no relevant gain in both; remove one of the
distillers for its single forms. Deviation: the original takes the output loss
over pixels that are not labelled with a new class; here it is over all pixels.
"""
method = dict(
    name='ilt',
    loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0),
    distillers=[
        dict(
            type='LogitDistiller',
            loss=dict(
                type='KnowledgeDistillationLoss', loss_weight=1.0, over_all=True,
                class_mean=False)),
        dict(
            type='FeatureDistiller',
            stage=-1,
            loss=dict(type='FeatureDistillationLoss', loss_weight=50.0)),
    ],
    classifier_init='random')
