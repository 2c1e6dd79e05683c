"""RCIL (Zhang et al., CVPR 2022) on cityscapes 13-6 by class.

Settings of the papers: DeepLabV3 with ResNet-101, output stride 16, crop 512,
total batch 24, SGD with Nesterov momentum, poly schedule (RCIL, argparser.py),
lr 0.02 at step 0 and 0.001 at later ones (RCIL, scripts/cityscapeClL, its
script of 10-9).
Published mIoU over all classes after the last step: none was found; Cityscapes
by class is hardly reported, and not alike in classes and labels.
Not run here in full.

Deviations: BatchNorm of torch for InPlace-ABN and torchvision's ImageNet
weights, dropout 0.1 before the classifier and evaluation on whole images, as in
MMSegmentation; statistics of the merged norms (configs/_base_/methods/rcil.py
names the official form); cube factors of VOC, for none are published; policies
of the preset 'default' (protocol.preset='mib' or 'plop' reproduces the papers'
label and averaging rules).

    bash tools/dist_train.sh \
        configs/rcil/rcil_deeplabv3_r101-d16_cityscapes-13-6.py 4
"""
_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/protocols/cityscapes_13-6.py',
    '../_base_/methods/rcil.py',
    '../_base_/schedules/cityscapes_rcil.py',
    '../_base_/default_runtime.py',
]
