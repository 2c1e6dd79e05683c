"""DeepLabV3, ResNet-18, output stride 16, random start: small, for demos and tests.

ASPP with dilations 6, 12, 18 and 256 channels as MiB, PLOP and RCIL train it (Chen et al.,
arXiv 1706.05587, section 3.3); no auxiliary head. They use InPlace-ABN, here
it is synchronised batch norm (plain batch norm where there is no GPU). MMSegmentation's ASPP
fuses its branches by a 3x3 convolution, their code by a 1x1.

num_classes is a placeholder: the scheduler sets it to the classes seen at each step. Training
batches are padded to data_preprocessor.size: a config with another crop repeats it there,
model = dict(data_preprocessor=dict(size=_base_.crop_size)).
"""

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        strides=(1, 2, 2, 1),
        dilations=(1, 1, 1, 2),
        contract_dilation=True,
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='pytorch',
    ),
    decode_head=dict(
        type='ASPPHead',
        in_channels=512,
        in_index=3,
        channels=256,
        dilations=(1, 6, 12, 18),
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
