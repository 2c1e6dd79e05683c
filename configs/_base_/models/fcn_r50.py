"""FCN on a dilated ResNet-50, output stride 8, with an auxiliary head on stage 3 (weight 0.4).

Long et al., arXiv 1411.4038, in MMSegmentation's form: two 3x3 convolutions, their output
concatenated with the features. The auxiliary head grows with the classes too.

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
        type='FCNHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        num_convs=2,
        concat_input=True,
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
