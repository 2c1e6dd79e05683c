"""RCIL (Zhang et al., CVPR 2022) on cityscapes domain 11-1.

Paper settings: DeepLabV3 with ResNet-101, output stride 16, crop 512, total
batch 24, SGD with Nesterov momentum, poly schedule (RCIL, argparser.py), lr
0.02 at step 0 and 0.004 at later ones (RCIL, scripts/cityscapesDomain).
Published mIoU over all classes after the last step: 63.0 (RCIL README), 63.00
(VDFD, TPAMI 2023), both on the leaking split.
Not run here in full: the figure is the paper's, not ours.

Deviations: BatchNorm of torch for InPlace-ABN and torchvision's ImageNet
weights, dropout 0.1 before the classifier and evaluation on whole images, as in
MMSegmentation; statistics of the merged norms (configs/_base_/methods/rcil.py
names the official form); policies of the preset 'default' and the clean split
(protocol.split='legacy' is the published one).

    bash tools/dist_train.sh \
        configs/rcil/rcil_deeplabv3_r101-d16_cityscapes-domain-11-1.py 4
"""
_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/protocols/cityscapes_domain_11-1.py',
    '../_base_/methods/rcil.py',
    '../_base_/schedules/cityscapes_domain_11-1_rcil.py',
    '../_base_/default_runtime.py',
]
