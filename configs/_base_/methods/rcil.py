"""RCIL: Zhang et al., "Representation Compensation Networks for Continual Semantic
Segmentation", CVPR 2022; official code zhangchbin/RCIL.

Four parts: two parallel branches, one of them frozen, in the 3x3 convolutions
of the residual blocks and in the ASPP, merged into the plain network after
each step (section 3.2; modules/residual.py, modules/deeplab.py, run.py); the
pooled cube distance of stages, ASPP output and logits, over space and over
channels (section 3.3; train.py); MiB's unbiased cross-entropy and its unbiased
distillation with weight 100 (argparser.py, method RCIL: loss_kd 100); new
classifier rows with the background's weights, not its bias
(segmentation_module.py, init_new_classifier).

Weights of the cube (train.py, features_distillation_spatial and _channel), of
all maps but the last and of the last: 0.01 and 0.0005 on VOC, 5e-6 and 5e-7 on
ADE20K, for both distances; on Cityscapes by city 5e-4 and 1e-4 over space,
1e-4 and 0 over channels. They are for maps of the official sizes.

In a domain-incremental walk the official scripts train with plain cross-entropy
and the cube alone (scripts/cityscapesDomain, --method FT), so the distillation
of the logits is left out on Cityscapes by city (and on VOC by year, ours); no
class hides and none is new there, so the unbiased cross-entropy is the plain
one. Another protocol by domain keeps it unless its config says the same. On
Cityscapes by class no weights are published: those of VOC are ours.

Differing from the official code: a batch norm scales by its weight, an
InPlace-ABN by |weight| + eps; the merged norm holds statistics that fit
(ParallelBranches says which), the official one mean 0 and deviation 1.
"""

method = dict(
    name='rcil',
    by_protocol='rcil',  # distillers
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    network_change=dict(type='ParallelBranches', parts=('backbone', 'decode_head')),
    classifier_init='copied_background',
)
