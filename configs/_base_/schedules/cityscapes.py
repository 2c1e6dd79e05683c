"""Cityscapes: 50 epochs a step, lr 0.01 and then 0.001.

The published scripts of PLOP; RCIL takes lr 0.02 at step 0 (cityscapes_rcil.py), by city
then 0.002 or 0.004 (cityscapes_domain_rcil.py, cityscapes_domain_11-1_rcil.py).

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
    0: dict(lr=0.01, max_epochs=50),
    'later': dict(lr=0.001, max_epochs=50),
}
