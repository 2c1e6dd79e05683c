"""M2KD: Zhou et al., "M2KD: Multi-model and Multi-level Knowledge Distillation for
Incremental Learning", arXiv 1904.01769, 2019; published for classification, without code.

Known of it: the loss is L_MMD + lambda L_AD beside cross-entropy, where L_MMD distils
from the snapshots of all earlier steps and not of the last alone, and L_AD
keeps an intermediate level through an auxiliary classifier; snapshots are rebuilt
from a pruned network. No formula, weight, temperature or figure could be had.

Hence ours: snapshot k teaches the classes that were new at step k, by the divergence
of softmaxes over them and its background, which stands for the student's background and
all later classes (classes='known': all that it knows); mean over snapshots; mean over
pixels; temperature 1; weights 1 and, as of the head's cross-entropy, 0.4, neither
tuned; the auxiliary head is MMSegmentation's FCN on stage 3, with the same
distillation from the snapshots' heads. Labels
call old classes background, so cross-entropy and new rows are MiB's (unbiased, balanced); in a
domain-incremental walk they are ordinary, and every snapshot teaches all classes.

Teachers are the steps' own checkpoints here; `m2kd_pruned.py` keeps pruned ones.
teacher_draw=k runs k of them an iteration, for long walks.
"""

method = dict(
    name='m2kd',
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    teachers='all',
    teacher_draw=None,
    distillers=[
        dict(
            type='M2KDDistiller',
            classes='new',
            loss=dict(type='MatchingDistillationLoss', loss_weight=1.0, temperature=1.0),
            auxiliary_loss=dict(
                type='MatchingDistillationLoss',
                loss_weight=0.4,
                temperature=1.0,
                loss_name='loss_ad',
            ),
        ),
    ],
    classifier_init='balanced',
)
