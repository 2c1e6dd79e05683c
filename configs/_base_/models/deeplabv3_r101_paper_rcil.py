"""DeepLabV3 as RCIL built it: that of MiB and PLOP, but for the stem and the first weights.

As deeplabv3_r101_paper.py, with no activation after the first convolution and a gain of 1 for
the first weights of the head: the norms of zhangchbin/RCIL segmentation_module.py have slope 1,
and its blocks and its ASPP activate by themselves (modules/residual.py, modules/deeplab.py).
"""

_base_ = './deeplabv3_r101_paper.py'
model = dict(backbone=dict(stem_activation=False), decode_head=dict(gain_slope=1.0))
