"""DF-GR: Choi, El-Khamy and Lee, "Dual-Teacher Class-Incremental Learning With Data-Free
Generative Replay", CVPR workshops 2021 (arXiv 2106.09835), in a form for segmentation that is ours.

Published: a generator is trained from scratch, without data, from the last
classifier, and its images replay the old classes. Generator, losses, weights
and the method that it is added to are not published, nor is there code; all
figures are of classification (CIFAR-100, ImageNet).

Ours: before each later step the sub-step `generator` trains a small generator of
images to a random label layout, from the last segmentor alone: cross-entropy to
the layout, statistics of the batch norms, balance of the classes, confidence,
smoothness. In the step, every batch gets generated images besides (half as many
as real ones), which have no labels: the last segmentor teaches what they show.
The losses are MiB's (see mib.py); any method can be given the same replay by
its sub_steps, as below.

docs/cumulative.md derives the losses. The cross-entropy divides by all pixels, those of
generated images too, so that it weighs 2/3 of MiB's against the distillation.
"""

method = dict(
    name='dfgr',
    by_protocol='dfgr',  # distillers
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
    ],
)
