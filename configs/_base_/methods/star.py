"""STAR (Chen et al., NeurIPS 2023; jinpeng0528/STAR); its weight of positives lies in star/.

configs/star/README.md tells what is official and what is ours.
"""

method = dict(
    name='star',
    by_protocol='star',  # loss_decode.pos_weight
    loss_decode=dict(type='ReplayedCrossEntropyLoss'),
    distillers=[dict(type='StarDistiller')],
    network_change=dict(type='ForegroundRows', auxiliary=False),
    classifier_init='kaiming',
    freezing=dict(norm_statistics=['*']),
    custom_hooks=[dict(type='StarStatisticsHook'), dict(type='RowRateHook', factor=10.0)],
)
