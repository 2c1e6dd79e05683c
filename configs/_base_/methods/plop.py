"""PLOP (Douillard et al., CVPR 2021); its factors lie in plop/, by protocol.

configs/plop/README.md tells what is official and what is ours.
"""

method = dict(
    name='plop',
    by_protocol='plop',  # distillers
    loss_decode=dict(type='PseudoLabelCrossEntropyLoss', loss_weight=1.0),
    classifier_init='balanced',
    custom_hooks=[dict(type='PseudoLabelThresholdsHook', base=0.001, median='true')],
)
