"""PSPNet, ResNet-50, output stride 8, with an auxiliary head on stage 3 (weight 0.4).

Zhao et al., arXiv 1612.01105: pooling to 1, 2, 3 and 6 bins, auxiliary loss
0.4. The auxiliary head grows with the classes too.

parts/resnet50.py says where the backbone's weights come from. num_classes is a placeholder: a
walk sets it to the classes seen at each step.
"""

_base_ = './parts/resnet50_aux.py'
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
    ),
    decode_head=dict(
        type='PSPHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        pool_scales=(1, 2, 3, 6),
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
