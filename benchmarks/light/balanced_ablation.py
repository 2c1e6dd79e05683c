"""The walk of balanced_voc.py with VDFD's recipe and with each of its parts taken away.

python tools/grid.py benchmarks/light/balanced_ablation.py --work-dir work_dirs/balanced_ablation
"""

_base_ = './balanced_bfloat16.py'
_fewer = _base_.fewer
_without = {
    'penalty': {'method.regularisers.0.loss_weight': 0.0},
    'reanchoring': {'method.regularisers.0.reanchor': False},
    'hinge': {'method.regularisers.1.loss_weight': 0.0},
    'clusters': {
        'method.custom_hooks.2.background': 1,
        'method.custom_hooks.2.foreground': 1,
        'method.regularisers.1.background': False,
    },
    'ewf': {'method.custom_hooks.0.factor': 1.0},
    'greatest': {'method.regularisers.1.against': 'own'},
    'row_rates': {'method.custom_hooks.3.factor': 1.0},
    'all_nodes': {'method.custom_hooks.1.nodes': 'new'},
    'unbiased_ce': {'method.loss_decode': dict(type='CrossEntropyLoss')},
    'balanced_rows': {'method.classifier_init': 'random'},
    # DFD's penalty is VDFD's with the identity in the place of the learnt covariance.
    'learnt_covariance': {
        'method.regularisers': [
            dict(type='DFDRegulariser', loss_weight=100.0, reanchor=True),
            dict(type='HingeRegulariser', loss_weight=0.3, background=True, against='greatest'),
        ]
    },
    'frozen_norms': {'method.freezing': None},
}
grid = dict(
    methods=[
        'finetune',
        dict(name='vdfd', method='vdfd', options=_fewer),
        *[
            dict(name=f'without_{part}', method='vdfd', options={**_fewer, **changes})
            for part, changes in _without.items()
        ],
        # Is it the penalty, or slow learning? Old parameters at a tenth of the rate, no penalty.
        dict(
            name='slow_without_penalty',
            method='vdfd',
            options={
                **_fewer,
                **_without['penalty'],
                'method.freezing': dict(
                    norm_statistics=['decode_head'], rates={'backbone': 0.1, 'decode_head': 0.1}
                ),
                # The new rows keep six times the rate of the schedule.
                'method.custom_hooks.3.factor': 60.0,
            },
        ),
    ],
    references=dict(nothing_learnt={}),
    baseline='vdfd',
)
