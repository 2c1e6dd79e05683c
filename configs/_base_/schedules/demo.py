"""The demo's schedule: AdamW, 700 iterations at lr 0.006, then 220 a step at lr 0.002.

Short warm-up, then poly decay with power 0.9, both anew at every step. Chosen
by trial for the embedded dataset.
"""

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.006, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=20, end=700, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=700)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
step_overrides = {
    0: dict(lr=0.006, max_iters=700),
    'later': dict(lr=0.002, max_iters=220),
}
