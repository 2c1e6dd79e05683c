"""Pascal VOC 10-5 (three steps of 11, 5 and 5 classes) on the balanced sample, light setting.

python tools/grid.py benchmarks/light/balanced_10_5.py --work-dir work_dirs/balanced_10_5
"""

_base_ = './balanced_voc.py'
protocol = dict(_delete_=True, name='voc_11-5')
# After 600 iterations five of the ten foreground classes of step 0 were not learnt.
step_overrides = {0: dict(max_iters=1800), 'later': dict(max_iters=200)}
# Mixed precision in bfloat16, channels last and a fused optimizer: half the time of a step.
channels_last = True
optim_wrapper = dict(type='BFloat16OptimWrapper', optimizer=dict(fused=True))
# The hooks of VDFD's recipe that keep gradients and mean embeddings read fewer images.
_fewer = {'method.custom_hooks.1.max_images': 128, 'method.custom_hooks.2.max_images': 256}
grid = dict(
    methods=[
        'finetune',
        dict(name='vdfd', method='vdfd', options=_fewer),
        # The weight where one class comes at a time. For this protocol `vdfd` has a tenth of it,
        # which was chosen on held-out training images.
        dict(
            name='vdfd_weight100',
            method='vdfd',
            options={**_fewer, 'method.regularisers.0.loss_weight': 100.0},
        ),
        'mib',
        'rcil',
        'plop',
        'lwf',
    ],
    # Joint training has as many iterations as a walk.
    references=dict(nothing_learnt={}, joint={'step_overrides.0.max_iters': 2200}),
)
