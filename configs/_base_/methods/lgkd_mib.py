"""LGKD (Yang et al., ICCV 2023) on MiB: label-guided in place of MiB's distillation.

configs/lgkd/README.md tells what is official and what is ours.
"""

method = dict(
    name='lgkd_mib',
    by_protocol='lgkd_mib',  # distillers
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    classifier_init='balanced',
)
