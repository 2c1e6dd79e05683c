"""Pascal VOC 10-5 (three steps of 11, 5 and 5 classes) on the balanced sample, light setting.

python tools/grid.py benchmarks/light/balanced_10_5.py --work-dir work_dirs/balanced_10_5
"""

_base_ = './balanced_voc.py'
protocol = dict(_delete_=True, name='voc_11-5')
step_overrides = {'later': dict(max_iters=200)}
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
        'lwf',
    ],
    # Joint training has as many iterations as a walk.
    references=dict(nothing_learnt={}, joint={'step_overrides.0.max_iters': 1000}),
)
