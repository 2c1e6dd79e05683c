"""DeepLabV3+, ResNet-101, output stride 16: deeplabv3plus_r50.py with the deeper backbone.

The backbone starts from torchvision's ImageNet weights, a download. From a file instead:
--cfg-options model.backbone.init_cfg.checkpoint=/path/to/resnet101.pth.
"""

_base_ = './deeplabv3plus_r50.py'
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth'),
    )
)
