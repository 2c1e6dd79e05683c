"""The walk of balanced_voc.py with VDFD's recipe and with each of its parts taken away.

python tools/grid.py benchmarks/light/balanced_ablation.py --work-dir work_dirs/balanced_ablation
"""

_base_ = './balanced_voc.py'
# Fewer images than by default for what is kept: a pass over them costs as many steps of training.
_fused = dict(type='EWFHook')
_kept = dict(
    type='VDFDHook', rank=1, outputs='mean', nodes='all', background='keep', max_images=128
)
_means = dict(type='ClassMeansHook', background=32, foreground=8, max_images=256)
_rates = dict(type='RowRateHook', factor=6.0)
_all = {'method.custom_hooks': [_fused, _kept, _means, _rates]}
_one_mean = dict(type='ClassMeansHook', max_images=256)
grid = dict(
    methods=[
        'finetune',
        dict(name='vdfd', method='vdfd', options=_all),
        dict(
            name='without_penalty',
            method='vdfd',
            options={**_all, 'method.regularisers.0.loss_weight': 0.0},
        ),
        dict(
            name='without_reanchoring',
            method='vdfd',
            options={**_all, 'method.regularisers.0.reanchor': False},
        ),
        dict(
            name='without_hinge',
            method='vdfd',
            options={**_all, 'method.regularisers.1.loss_weight': 0.0},
        ),
        dict(
            name='without_clusters',
            method='vdfd',
            options={
                'method.custom_hooks': [_fused, _kept, _one_mean, _rates],
                'method.regularisers.1.background': False,
            },
        ),
        dict(
            name='without_ewf',
            method='vdfd',
            options={'method.custom_hooks': [_kept, _means, _rates]},
        ),
        dict(
            name='without_row_rates',
            method='vdfd',
            options={'method.custom_hooks': [_fused, _kept, _means]},
        ),
        dict(
            name='without_frozen_norms',
            method='vdfd',
            options={**_all, 'method.freezing': dict(_delete_=True)},
        ),
    ],
    seeds=[1, 2, 3],
    references={},
    baseline='vdfd',
    share_step_0='any',
)
