"""DeepLabV3, ResNet-50, output stride 16.

ASPP with dilations 6, 12, 18 and 256 channels as MiB, PLOP and RCIL train it (Chen et al.,
arXiv 1706.05587, section 3.3); no auxiliary head. They use InPlace-ABN, here
it is synchronised batch norm (plain batch norm where there is no GPU). MMSegmentation's ASPP
fuses its branches by a 3x3 convolution, their code by a 1x1.

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
        type='ASPPHead',
        in_channels=2048,
        in_index=3,
        channels=256,
        dilations=(1, 6, 12, 18),
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
