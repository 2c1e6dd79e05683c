"""A try-out: 100 iterations a step, lr 0.01 throughout.

A design choice: 0.001 at later steps moves little in so few iterations.

SGD with Nesterov momentum, poly decay with power 0.9, step by step anew. max_iters and end
are placeholders: the scheduler sets both from step_overrides, epochs by the images of a
step. Keys of an entry: lr, max_epochs or max_iters, and any dotted config key. Entry 0 is
that of the first step that trains: step 1 where step 0 is the background alone (voc_1-1).
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4),
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=100, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
step_overrides = {
    0: dict(lr=0.01, max_iters=100),
    'later': dict(lr=0.01, max_iters=100),
}
