"""The demo's network, fcn_r18-thin.py, with an auxiliary head on stage 3 (weight 0.4).

For methods that learn from an intermediate level. A design of ours; no published network.
"""

_base_ = './fcn_r18-thin.py'
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=64,
        in_index=2,
        channels=32,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
    )
)
