"""STAR's schedule for VOC: 60 epochs, heads at ten times the rate (RowRateHook: new rows at 100).

Its official scripts (jinpeng0528/STAR, scripts/voc): lr 0.001 at step 0 and 0.0001 later.
"""

_base_ = './voc.py'
optim_wrapper = dict(
    optimizer=dict(lr=0.001),
    paramwise_cfg=dict(
        custom_keys={'decode_head': dict(lr_mult=10.0), 'auxiliary_head': dict(lr_mult=10.0)}
    ),
)
step_overrides = {0: dict(lr=0.001, max_epochs=60), 'later': dict(lr=0.0001, max_epochs=60)}
