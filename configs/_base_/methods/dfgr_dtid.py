"""DF-GR with DT-ID: Choi, El-Khamy and Lee, "Dual-Teacher Class-Incremental Learning With
Data-Free Generative Replay", CVPR workshops 2021 (arXiv 2106.09835), in a form for segmentation
that is ours.

Published: two teachers, the old classifier and one trained on the new data,
teach one student of all classes. The loss is not published, nor is there code;
all figures are of classification (CIFAR-100, ImageNet).

Ours: replay as in dfgr.py. A second sub-step, `new_data`, trains the step's
network on the step's images with the background and the new classes alone. The
student's logits of old classes follow the old segmentor's on generated images,
those of new classes the new one's on real images, with a learnt variance for
each class (variational information distillation); MiB's cross-entropy and
distillation stay. form='double' is the simple limit, double distillation (Zhang
et al., WACV 2020). A walk by domain has no new classes and is refused.

docs/cumulative.md derives the losses. The cross-entropy divides by all pixels, those of
generated images too, so that it weighs 2/3 of MiB's against the distillation.
"""

method = dict(
    name='dfgr_dtid',
    by_protocol='dfgr_dtid',  # distillers
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    classifier_init='balanced',
    sub_steps=[
        dict(
            type='GeneratorSubStep',
            name='generator',
            batch_size=8,
            lr=2e-3,
            replay=dict(ratio=0.5, cache=0),
        ),
        dict(type='NewDataSubStep', name='new_data', init='last_step'),
    ],
)
