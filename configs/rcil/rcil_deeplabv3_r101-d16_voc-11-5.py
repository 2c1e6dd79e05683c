"""RCIL (Zhang et al., CVPR 2022) on voc 11-5.

Paper settings: DeepLabV3 with ResNet-101, output stride 16, crop 512, total
batch 24, SGD with Nesterov momentum, poly schedule (RCIL, argparser.py), lr
0.02 at step 0 and 0.001 at later ones (RCIL, scripts/voc).
There is no script of this name: settings are those of the other VOC tasks.
Published mIoU over all classes after the last step: none is known under this
name.
Not run here in full: the figure is the paper's, not ours.

Deviations: BatchNorm of torch for InPlace-ABN and torchvision's ImageNet
weights, dropout 0.1 before the classifier and evaluation on whole images, as in
MMSegmentation; statistics of the merged norms (configs/_base_/methods/rcil.py
names the official form); policies of the preset 'default'
(protocol.preset='mib' or 'plop' reproduces the papers' label and averaging
rules).

    bash tools/dist_train.sh \
        configs/rcil/rcil_deeplabv3_r101-d16_voc-11-5.py 4
"""
_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/protocols/voc_11-5.py',
    '../_base_/methods/rcil.py',
    '../_base_/schedules/voc_rcil.py',
    '../_base_/default_runtime.py',
]
