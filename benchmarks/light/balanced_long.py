"""The walk of balanced_voc.py from a better base: more iterations for every step.

python tools/grid.py benchmarks/light/balanced_long.py --work-dir work_dirs/balanced_long
"""

_base_ = './balanced_voc.py'
step_overrides = {0: dict(max_iters=1800), 'later': dict(max_iters=200)}
_fewer = {'method.custom_hooks.1.max_images': 128, 'method.custom_hooks.2.max_images': 256}
grid = dict(
    _delete_=True,
    methods=[
        dict(name='vdfd', method='vdfd', options=_fewer),
        'mib',
        'plop',
        'rcil',
        'finetune',
        dict(
            name='mib_ewf_frozen_norms',
            method='mib',
            options={
                'method.freezing': dict(norm_statistics=['decode_head']),
                'method.custom_hooks': [dict(type='EWFHook')],
            },
        ),
    ],
    seeds=[1, 2, 3],
    # Joint training has as many iterations as a walk.
    references=dict(nothing_learnt={}, joint={'step_overrides.0.max_iters': 2600}),
    baseline='mib',
    share_step_0='any',
)
