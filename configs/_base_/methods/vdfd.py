"""VDFD: Li et al., "Variational Data-Free Knowledge Distillation for Continual Learning",
TPAMI 2023; official code XiaorongLi-95/VDFD (classification; its segmentation part is empty).

After a step a hook keeps the gradients of the step's mean logits with respect
to the weights, averaged over each filter and reduced to rank 1 a tensor. In
later steps the regulariser penalises the first-order change of these logits in
the metric of a covariance that a graph network over the classes learns along
(equations of docs/vdfd.md). No old image, label or network is used.

Official: rank 1, eps 0.001, filter averaging, widths D // 16 and D // 8 of the
graph network. Its Adam with learning rate and weight decay 5e-4 is our pair, of official
magnitudes (1e-4 to 7e-4 and 1e-5 to 5e-4). As in the paper and unlike the official code, eps
is in the quadratic form too (regulariser, quadratic='official'). Not told for segmentation,
hence our choice: which outputs (hook, outputs='mean' over all pixels, 'predicted' or
'grid'), the background (background='keep', 'exclude', 'merge'), which parameters (backbone,
neck and head with its classifier, which officially is a head of its own for each task), 500
images a step at most, and the weight of the regulariser (5 to 200 officially, for
classification): 10 was better than 1 over a whole walk on held-out training images, and 1
better after its first step, see docs/vdfd.md. Under SGD the penalty is damped to what a
step can follow (regulariser, damping; there too).
"""

method = dict(
    name='vdfd',
    regularisers=[
        dict(
            type='VDFDRegulariser',
            loss_weight=10.0,
            eps=1e-3,
            optimizer=dict(type='Adam', lr=5e-4, weight_decay=5e-4),
        )
    ],
    classifier_init='random',
    custom_hooks=[dict(type='VDFDHook', rank=1, outputs='mean', background='keep')],
)
