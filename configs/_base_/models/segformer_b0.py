"""SegFormer with MiT-B0, random start.

Xie et al., arXiv 2105.15203, appendix (the encoder's sizes). MMSegmentation's decoder.
ImageNet weights of the encoder, where there are any, are given with
--cfg-options model.backbone.init_cfg.type=Pretrained
model.backbone.init_cfg.checkpoint=/path/to/mit_b0.pth (key names as MMSegmentation's
converted MiT weights). The paper trains with AdamW, lr 6e-5, weight decay 0.01: replace
optim_wrapper.optimizer with _delete_=True.

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
        type='MixVisionTransformer',
        in_channels=3,
        embed_dims=32,
        num_stages=4,
        num_layers=[2, 2, 2, 2],
        num_heads=[1, 2, 5, 8],
        patch_sizes=[7, 3, 3, 3],
        sr_ratios=[8, 4, 2, 1],
        out_indices=(0, 1, 2, 3),
        mlp_ratio=4,
        qkv_bias=True,
        drop_rate=0.0,
        attn_drop_rate=0.0,
        drop_path_rate=0.1,
    ),
    decode_head=dict(
        type='SegformerHead',
        in_channels=[32, 64, 160, 256],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
