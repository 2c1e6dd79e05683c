"""A short schedule for a few thousand small images: 300 iterations, then 150 a step.

SGD as in the papers with lr 0.01 at step 0. At later steps lr 0.005, not the
papers' 0.001: with 8 images an iteration and 150 iterations a step sees a
thirtieth of the crops that the papers' schedule shows, and at 0.001 no method
learns anything new. A design choice. Poly decay with power 0.9.
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
    'later': dict(lr=0.005, max_iters=150),
}
