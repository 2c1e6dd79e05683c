"""PLOP (Douillard et al., CVPR 2021) on voc 5-3.

Paper settings: DeepLabV3 with ResNet-101, output stride 16, crop 512, total
batch 24, SGD with Nesterov momentum, poly schedule (CVPR2021_PLOP,
argparser.py).
Published mIoU over all classes after the last step: overlapped 18.68 (SSUL
README).
Not run here in full: the figure is the paper's, not ours.

Deviations: BatchNorm of torch for InPlace-ABN and torchvision's ImageNet
weights, dropout 0.1 before the classifier and evaluation on whole images, as
in MMSegmentation; a true median, whole images for the thresholds, and full
weight of images without background (configs/_base_/methods/plop.py names the
official forms); policies of the preset 'default' (protocol.preset='mib' or
'plop' reproduces the papers' label and averaging rules).

    bash tools/dist_train.sh \
        configs/plop/plop_deeplabv3_r101-d16_voc-5-3.py 4
"""
_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/protocols/voc_5-3.py',
    '../_base_/methods/plop.py',
    '../_base_/schedules/voc.py',
    '../_base_/default_runtime.py',
]
