"""Decomposed KD's schedule for ADE20K: 100 epochs, heads at ten times the rate.

Its official scripts (cvlab-yonsei/DKD, scripts/ade): lr 0.0025 at step 0 and 0.00025 later, a
linear warm-up over the first fifth, no weight decay in later steps. Officially the rows of new
classes alone decay there.
"""

_base_ = './ade20k.py'
optim_wrapper = dict(
    optimizer=dict(lr=0.0025),
    paramwise_cfg=dict(
        custom_keys={'decode_head': dict(lr_mult=10.0), 'auxiliary_head': dict(lr_mult=10.0)}
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=20, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=100, by_epoch=False),
]
step_overrides = {
    0: dict(lr=0.0025, max_epochs=100),
    'later': {'lr': 0.00025, 'max_epochs': 100, 'optim_wrapper.optimizer.weight_decay': 0.0},
}
