"""A ResNet-18 of 16 base channels with an FCN head, output stride 8: 0.78 M parameters.

For the demo: it learns the embedded shapes from random weights in a minute or
two on a CPU core. num_classes is a placeholder that the scheduler sets at every
step. A design of ours; no published network.
"""

norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[118.0, 118.0, 118.0],
        std=[60.0, 60.0, 60.0],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(80, 80),
    ),
    backbone=dict(
        type='ResNetV1c',
        depth=18,
        base_channels=16,
        stem_channels=16,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        norm_cfg=norm_cfg,
        norm_eval=False,
        contract_dilation=True,
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=128,
        in_index=3,
        channels=64,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
