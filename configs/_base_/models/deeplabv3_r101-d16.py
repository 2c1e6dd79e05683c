"""DeepLabV3, ResNet-101, output stride 16: the network of MiB, PLOP and RCIL.

deeplabv3_r50-d16.py with the deeper backbone; see there for the details. The backbone
starts from torchvision's ImageNet weights, a download. From a file instead:
--cfg-options model.backbone.init_cfg.checkpoint=/path/to/resnet101.pth.
"""

_base_ = './deeplabv3_r50-d16.py'
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth'),
    )
)
