"""DFD: Li et al., "Memory Efficient Data-Free Distillation for Continual Learning",
Pattern Recognition 2023; official code XiaorongLi-95/DFD (classification).

After a step the gradients of its mean logits are kept, compressed; later the
first-order change of these logits is penalised. It is VDFD with the identity as
covariance: no graph network and no log-determinant. See vdfd.py for what the
hook and its options do, and for what is our choice.

The weight of the regulariser is a placeholder between the official ones for
classification (5 to 200): sweep it.
"""
method = dict(
    name='dfd',
    regularisers=[dict(type='DFDRegulariser', loss_weight=10.0)],
    classifier_init='random',
    custom_hooks=[dict(type='VDFDHook', rank=1)])
