"""The walk of balanced_voc.py with the methods of the toolkit, those of a seed from one step 0.

DFT* and Decomposed KD learn nothing new in so few iterations; the rows of their new classes learn
ten times as fast here, as STAR's do (docs/results.md has both).

    python tools/grid.py benchmarks/light/balanced_peers.py --work-dir work_dirs/balanced_peers
"""

_base_ = './balanced_voc.py'
_fewer = {'method.custom_hooks.1.max_images': 128, 'method.custom_hooks.2.max_images': 256}
_faster_rows = {'method.custom_hooks': [dict(type='RowRateHook', factor=10.0)]}
grid = dict(
    methods=[
        'finetune',
        'lwf',
        'lwf_mc',
        'ilt',
        'm2kd',
        'dkd',
        'dfgr',
        'dfgr_dtid',
        'dfd',
        dict(name='dkd_decomposed_rate10', method='dkd_decomposed', options=_faster_rows),
        'star',
        'sdr',
        'mib_ucd',
        'mib_nest',
        dict(name='dft_star_rate10', method='dft_star', options=_faster_rows),
        'reminder',
        'mib',
        'lgkd_mib',
        'lgkd',
        'mib_awt',
        'mib_ewf',
        'caf',
        'plop',
        'rcil',
        dict(name='vdfd', method='vdfd', options=_fewer),
    ],
    # Joint training has as many iterations as a walk.
    references=dict(nothing_learnt={}, joint={'step_overrides.0.max_iters': 1080}),
)
