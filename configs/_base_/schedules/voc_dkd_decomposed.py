"""Decomposed KD's schedule for VOC: 60 epochs, heads at ten times the rate.

Its official scripts (cvlab-yonsei/DKD, scripts/voc): lr 0.001 at step 0 and 0.0001 later,
no weight decay in later steps. Officially the rows of new classes alone decay there, and a batch
has 32 images (global_batch_size=32).
"""

_base_ = './voc.py'
optim_wrapper = dict(
    optimizer=dict(lr=0.001),
    paramwise_cfg=dict(
        custom_keys={'decode_head': dict(lr_mult=10.0), 'auxiliary_head': dict(lr_mult=10.0)}
    ),
)
step_overrides = {
    0: dict(lr=0.001, max_epochs=60),
    'later': {'lr': 0.0001, 'max_epochs': 60, 'optim_wrapper.optimizer.weight_decay': 0.0},
}
