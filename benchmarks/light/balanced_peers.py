"""The walk of balanced_voc.py with the methods of peers, each from one step 0.

python tools/grid.py benchmarks/light/balanced_peers.py --work-dir work_dirs/balanced_peers
"""

_base_ = './balanced_voc.py'
_fewer = {'method.custom_hooks.1.max_images': 128, 'method.custom_hooks.2.max_images': 256}
grid = dict(
    _delete_=True,
    methods=[
        'finetune',
        'dkd_decomposed',
        'star',
        'sdr',
        'mib_ucd',
        'mib_nest',
        'dft_star',
        'reminder',
        'mib',
        'lgkd_mib',
        'lgkd',
        'mib_awt',
        'mib_ewf',
        'caf',
        'plop',
        dict(name='vdfd', method='vdfd', options=_fewer),
    ],
    seeds=[1, 2, 3],
    references=dict(nothing_learnt={}),
    baseline='mib',
    share_step_0='any',
)
