"""DeepLabV3, ResNet-50 in Caffe's form, output stride 16, frozen norm statistics.

deeplabv3_r50-d16.py for ImageNet weights whose stride sits on the first 1x1 convolution of
a stage (Caffe, Keras ResNet-50 v1), RGB input with the usual mean and standard deviation.
The backbone keeps its stored norm statistics and trains the affine part (norm_eval=True):
small batches of small crops estimate statistics badly.

The weights lie in data/weights/resnet50_caffe.pth (torchvision key names, without or with
fc; half precision is cast). Elsewhere:
--cfg-options model.backbone.init_cfg.checkpoint=/path/to/file.pth; from random weights:
model.backbone.init_cfg=None model.backbone.norm_eval=False.
"""

_base_ = './deeplabv3_r50-d16.py'
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(
        style='caffe',
        norm_cfg=norm_cfg,
        norm_eval=True,
        init_cfg=dict(checkpoint='data/weights/resnet50_caffe.pth'),
    ),
    decode_head=dict(norm_cfg=norm_cfg),
)
