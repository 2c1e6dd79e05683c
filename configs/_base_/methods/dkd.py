"""DKD, full form (FDKD): Shi et al., "Densely Distilling Cumulative Knowledge for Continual
Learning", arXiv 2405.09820 (2024); no code is public.

Published, for the classification of images: a pool of tasks, the logits in dense
groups, one a task of the pool; all groups are distilled (FDKD), or one at random
in every optimisation step (RDKD, dkd_random.py); a weight that adapts to the
count and the similarity of old and new classes. Which groups the pool holds, the
temperature, the weight's formula and any figure are not known to us. Ours, so far
as they do not follow from that:

* a group is any set of earlier steps (2^t - 1 of them, all up to 7 steps, of more
  a fixed choice of 128), and its loss the divergence of the softmax inside it,
  temperature 1, averaged over groups and over the pixels that are not ignored;
* the background belongs to step 0, and the student's stands for background and
  new classes together, as in MiB;
* everything else is MiB's (mib.py): unbiased cross-entropy and balanced
  initialisation, so that against MiB the distillation alone is exchanged;
* the weight is loss_weight x old / (old + new) x (1 + rho), rho the mean over new
  classes of their greatest cosine with an old class's row of the classifier;
  loss_weight is 1, better on the embedded 11-5 than 5 (mIoU of all classes at the
  end 40.2 and 36.1, of the base classes 45.5 and 45.0; MiB: 42.2 and 44.9; one seed).

A domain-incremental walk has one task, all classes: there DKD is ordinary
distillation, and FDKD and RDKD are the same. The loss may replace that of any
LogitDistiller: method.distillers.0.loss of another method's config.
"""

method = dict(
    name='dkd',
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    distillers=[
        dict(
            type='LogitDistiller',
            loss=dict(
                type='DenseKnowledgeDistillationLoss',
                loss_weight=1.0,
                pool='all_subsets',
                groups='all',
                background='merged',
                weighting='counts_and_similarity',
            ),
        ),
    ],
    classifier_init='balanced',
)
