"""UPerNet, ResNet-50 (output stride 32), with an auxiliary head on stage 3 (weight 0.4).

Xiao et al., arXiv 1807.10221: pyramid pooling on the last stage, a feature pyramid over all
four. The auxiliary head grows with the classes too.

parts/resnet50.py says where the backbone's weights come from. num_classes is a placeholder: a
walk sets it to the classes seen at each step.
"""

_base_ = './parts/resnet50_aux.py'
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(
        strides=(1, 2, 2, 2),
        dilations=(1, 1, 1, 1),
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[256, 512, 1024, 2048],
        in_index=[0, 1, 2, 3],
        channels=512,
        pool_scales=(1, 2, 3, 6),
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
