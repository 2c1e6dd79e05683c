"""The walk of balanced_voc.py with the published factors of peers and with others, light setting.

Factors are chosen on held-out images (see the README of this folder); ``balanced_tuned.py`` walks
the chosen ones on the test images. A name ends in the number that multiplies the published factors.
``mib_parts`` is MiB with those parts of VDFD's recipe that keep nothing but weights, and
``mib_recipe`` has the recipe's hinge, too.

    python tools/grid.py benchmarks/light/balanced_factors.py --seeds 1 --work-dir work_dirs/factors
"""

_base_ = './balanced_bfloat16.py'
# The keys of each method's factors and the published values.
_published = {
    'mib': {'method.distillers.0.loss.loss_weight': 10.0},
    'lwf': {'method.distillers.0.loss.loss_weight': 100.0},
    'ilt': {
        'method.distillers.0.loss.loss_weight': 100.0,
        'method.distillers.1.loss.loss_weight': 100.0,
    },
    'plop': {'method.distillers.0.factor': 0.01, 'method.distillers.0.logits_factor': 0.0005},
    'rcil': {
        'method.distillers.0.loss.loss_weight': 100.0,
        'method.distillers.1.factor': 0.01,
        'method.distillers.1.last_factor': 5e-4,
        'method.distillers.1.channel_factor': 0.01,
        'method.distillers.1.channel_last_factor': 5e-4,
    },
    'dfd': {'method.regularisers.0.loss_weight': 1.0},
}
_times = {
    'mib': (0.1, 3.0, 10.0),
    'lwf': (0.1, 10.0),
    'ilt': (0.1, 10.0),
    'plop': (0.1, 10.0),
    'rcil': (0.1, 10.0),
    'dfd': (10.0, 100.0),
}
_parts = {
    'method.freezing': dict(norm_statistics=['decode_head']),
    'method.custom_hooks': [dict(type='EWFHook'), dict(type='RowRateHook', factor=6.0)],
}
_hinge = {
    'method.regularisers': [
        dict(type='HingeRegulariser', loss_weight=0.3, background=True, against='greatest')
    ],
    'method.custom_hooks': [
        dict(type='EWFHook'),
        dict(type='RowRateHook', factor=6.0),
        dict(type='ClassMeansHook', background=32, foreground=8, max_images=256),
    ],
}
grid = dict(
    methods=[
        'finetune',
        *_published,
        *[
            dict(
                name=f'{method}_times{factor:g}',
                method=method,
                options={key: value * factor for key, value in _published[method].items()},
            )
            for method, factors in _times.items()
            for factor in factors
        ],
        dict(name='mib_parts', method='mib', options=_parts),
        dict(name='mib_recipe', method='mib', options={**_parts, **_hinge}),
        dict(
            name='mib_recipe_times10',
            method='mib',
            options={**_parts, **_hinge, 'method.distillers.0.loss.loss_weight': 100.0},
        ),
        dict(name='vdfd', method='vdfd', options=_base_.fewer),
    ],
    references=dict(nothing_learnt={}),
)
