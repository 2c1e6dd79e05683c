"""STAR with the choices of jinpeng0528/STAR where ours differ: thresholds, noise, void.

configs/star/README.md tells what is official and what is ours.
"""

_base_ = './star.py'
method = dict(
    name='star_paper',
    loss_decode=dict(form='official', void='background'),
    distillers=[dict(type='StarDistiller', form='official')],
    custom_hooks=[
        dict(type='StarStatisticsHook', form='official'),
        dict(type='RowRateHook', factor=10.0),
    ],
)
