"""DeepLabV3 as MiB and PLOP built it: ResNet-101, output stride 16, leaky ReLUs, their ASPP.

The network of deeplabv3_r101-d16.py, with leaky ReLUs of slope 0.01 after the norms, the last
stage dilated throughout, branches and pooled branch fused by 1x1 convolutions, no dropout before
the classifier, and their first weights of the head (fcdl94/MiB models/resnet.py,
modules/deeplab.py, segmentation_module.py). InPlace-ABN is not there: its weights from
ImageNet (here torchvision's), and its scale |weight| + eps.

MMSegmentation has neither this backbone nor this head, so config.py of a step imports
mmseg_cil.registry, which knows both.
"""

_base_ = './deeplabv3_r101-d16.py'
model = dict(
    backbone=dict(type='mmseg_cil.LeakyResNet', negative_slope=0.01, contract_dilation=False),
    decode_head=dict(
        type='mmseg_cil.PaperASPPHead',
        pooling_size=32,
        dropout_ratio=0.0,
        act_cfg=dict(type='LeakyReLU', negative_slope=0.01),
    ),
)
