"""MiB (Cermelli et al., CVPR 2020) on cityscapes 13-6 by class.

Settings of the papers on VOC and Cityscapes by city: DeepLabV3 with ResNet-101,
output stride 16, crop 512, total batch 24, SGD with Nesterov momentum, poly
schedule (fcdl94/MiB, argparser.py).
Published mIoU over all classes after the last step: none was found; Cityscapes
by class is hardly reported, and not alike in classes and labels.
Not run here in full.

Deviations: BatchNorm of torch for InPlace-ABN and torchvision's ImageNet
weights, dropout 0.1 before the classifier and evaluation on whole images, as
in MMSegmentation; policies of the preset 'default' (protocol.preset='mib' or
'plop' reproduces the papers' label and averaging rules).

    bash tools/dist_train.sh \
        configs/mib/mib_deeplabv3_r101-d16_cityscapes-13-6.py 4
"""
_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/protocols/cityscapes_13-6.py',
    '../_base_/methods/mib.py',
    '../_base_/schedules/cityscapes.py',
    '../_base_/default_runtime.py',
]
