"""DeepLabV3+, ResNet-50, output stride 16.

Chen et al., arXiv 1802.02611: separable ASPP of 256 channels, low-level features of the
first stage reduced to 48 channels (section 4.1); no auxiliary head.

parts/resnet50.py says where the backbone's weights come from. num_classes is a placeholder: a
walk sets it to the classes seen at each step.
"""

_base_ = './parts/resnet50.py'
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
    ),
    decode_head=dict(
        type='DepthwiseSeparableASPPHead',
        in_channels=2048,
        in_index=3,
        channels=256,
        dilations=(1, 6, 12, 18),
        c1_in_channels=256,
        c1_channels=48,
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
