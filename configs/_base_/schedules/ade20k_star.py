"""STAR's schedule for ADE20K: 100 epochs, heads at ten times the rate (new rows at 100).

Its official scripts (jinpeng0528/STAR, scripts/ade): lr 0.0025 at step 0 and 0.00025 later, a
linear warm-up over the first fifth.
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
step_overrides = {0: dict(lr=0.0025, max_epochs=100), 'later': dict(lr=0.00025, max_epochs=100)}
