"""A short schedule for a few thousand small images: 300 iterations, then 200 a step.

SGD as in the papers, but lr 0.01 at step 0 and 0.001 later with 8 images an
iteration, poly decay with power 0.9.
"""
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=300, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=300)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
step_overrides = {
    0: dict(lr=0.01, max_iters=300),
    'later': dict(lr=0.001, max_iters=200),
}
