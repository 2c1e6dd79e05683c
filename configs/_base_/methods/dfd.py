"""DFD: Li et al., "Memory Efficient Data-Free Distillation for Continual Learning",
Pattern Recognition 2023; official code XiaorongLi-95/DFD (classification).

After a step the gradients of its mean logits are kept, compressed; later the
first-order change of these logits is penalised. It is VDFD with the identity as
covariance: no graph network and no log-determinant. See vdfd.py for what the
hook and its options do, and for what is our choice.

The weight of the regulariser is 1 (officially 20 for 20 tasks of miniImageNet, the only one
known): docs/vdfd.md. Under SGD the penalty is damped, as in vdfd.py.
"""

method = dict(
    name='dfd',
    regularisers=[dict(type='DFDRegulariser', loss_weight=1.0)],
    classifier_init='random',
    custom_hooks=[dict(type='VDFDHook', rank=1)],
)
