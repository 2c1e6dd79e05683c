"""Six single classes after two on the balanced sample of Pascal VOC, light setting.

python tools/grid.py benchmarks/light/balanced_2_1.py --work-dir work_dirs/balanced_2_1
"""

_base_ = './balanced_voc.py'
protocol = dict(
    name='balanced_2-1',
    steps=[
        ['background', 'cat', 'cow'],
        ['dog'],
        ['person'],
        ['horse'],
        ['chair'],
        ['sheep'],
        ['sofa'],
    ],
)
# Mixed precision in bfloat16, channels last and a fused optimizer: half the time of a step.
channels_last = True
optim_wrapper = dict(type='BFloat16OptimWrapper', optimizer=dict(fused=True))
# The hooks of VDFD's recipe that keep gradients and mean embeddings read fewer images.
_fewer = {'method.custom_hooks.1.max_images': 128, 'method.custom_hooks.2.max_images': 256}
grid = dict(
    methods=[
        'finetune',
        dict(name='vdfd', method='vdfd', options=_fewer),
        'mib',
        'rcil',
        'plop',
        'star',
    ],
    # Joint training has as many iterations as a walk.
    references=dict(nothing_learnt={}, joint={'step_overrides.0.max_iters': 1320}),
)
