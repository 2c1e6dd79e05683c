"""PLOP: Douillard et al., "PLOP: Learning without Forgetting for Continual Semantic
Segmentation", CVPR 2021; official code arthurdouillard/CVPR2021_PLOP.

Three parts: Local POD, which compares stage maps, ASPP output and logits of
student and teacher, pooled at three scales (equations 3 to 6); cross-entropy
on labels whose background the teacher fills in where it is sure, weighted by
how much of it that is (equations 7 to 9); new classifier rows that share the
background's row and mass, as in MiB.

The POD factors are those of the official scripts, for maps of the official
sizes: 0.01 and 0.0005 (logits) on VOC, 0.001 and 0.00001 on ADE20K, 0.0001
for both on Cityscapes by city 11-5 and 11-1 and 0.0001 and 0.001 on 1-1. For
11-5 the source names no factors of its own; taking those of 11-1 is our choice.

Defaults that differ from the official code, each with its official form as an
option: thresholds are true medians of the entropy as a fraction of the greatest
(hook, `median='official'`: there the running sum adds the index of a bin, and the
entropy is divided by the number of classes and a logarithm once more, so that all of
it lies in a few of 100 bins and, with many classes, below every threshold); they come
from whole images instead of random crops (hook, `crops='random'`); an image without
background keeps its full weight (loss, `factor_without_background=0.0`); regions cover
maps of any size (distiller, `regions='official'`: equal on square maps that 4 divides).
`plop_paper.py` has the official forms. The least threshold 0.001 is the official number
on either scale.

In a domain-incremental walk no class hides and none is new, so that the same
config is cross-entropy plus Local POD without pseudo-labels: what the official
scripts run on Cityscapes by city.

With an exemplar memory (method.memory), which the paper has not in this form,
exemplars have no pseudo-labels, for their labels are complete, and count fully.
"""

method = dict(
    name='plop',
    by_protocol='plop',  # distillers
    loss_decode=dict(type='PseudoLabelCrossEntropyLoss', loss_weight=1.0),
    classifier_init='balanced',
    custom_hooks=[dict(type='PseudoLabelThresholdsHook', base=0.001, median='true')],
)
