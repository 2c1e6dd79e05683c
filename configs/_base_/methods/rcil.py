"""RCIL (Zhang et al., CVPR 2022; zhangchbin/RCIL); its distillers lie in rcil/, by protocol.

configs/rcil/README.md tells what is official and what is ours.
"""

method = dict(
    name='rcil',
    by_protocol='rcil',  # distillers
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    network_change=dict(type='ParallelBranches', parts=('backbone', 'decode_head')),
    classifier_init='copied_background',
)
