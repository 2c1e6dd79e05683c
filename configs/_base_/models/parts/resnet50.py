"""Settings that networks on a ResNet-50 share; a network adds strides, dilations and heads.

The backbone starts from torchvision's ImageNet weights, a download. From a file instead:
--cfg-options model.backbone.init_cfg.checkpoint=/path/to/resnet50.pth; from random weights:
model.backbone.init_cfg=None.

Training batches are padded to data_preprocessor.size: a config with another crop repeats it
there, model = dict(data_preprocessor=dict(size=_base_.crop_size)).
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
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        contract_dilation=True,
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='pytorch',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth',
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
