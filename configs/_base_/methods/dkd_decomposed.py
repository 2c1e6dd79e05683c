"""Decomposed KD (Baek et al., NeurIPS 2022; cvlab-yonsei/DKD), named apart from dense DKD.

The weights of positives lie in dkd_decomposed/, by protocol; configs/dkd_decomposed/README.md
tells what is official and what is ours.
"""

method = dict(
    name='dkd_decomposed',
    by_protocol='dkd_decomposed',  # weights of positives
    loss_decode=[dict(type='ForegroundCrossEntropyLoss'), dict(type='AuxiliaryOutputLoss')],
    distillers=[dict(type='DecomposedDistiller')],
    network_change=dict(type='ForegroundRows'),
    classifier_init='rare',  # the auxiliary row takes its place after a step of this method
    freezing=dict(norm_statistics=['*']),
)
