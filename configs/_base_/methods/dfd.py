"""DFD: the first-order change of a step's mean logits is penalised (Li et al., 2023).

configs/dfd/README.md tells what is official and what is ours.
"""

method = dict(
    name='dfd',
    regularisers=[dict(type='DFDRegulariser', loss_weight=1.0)],
    classifier_init='random',
    custom_hooks=[dict(type='VDFDHook', rank=1)],
)
