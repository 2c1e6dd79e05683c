"""LwF (Li and Hoiem, ECCV 2016) on cityscapes 10-9 by class.

Settings of the papers on VOC and Cityscapes by city: DeepLabV3 with ResNet-101,
output stride 16, crop 512, total batch 24, SGD with Nesterov momentum, poly
schedule (fcdl94/MiB, argparser.py).
Published mIoU over all classes after the last step: none was found for this
method; Cityscapes by class is hardly reported (the RCIL code has 10-9 with
another reading of the labels).
Not run here in full.

Deviations: BatchNorm of torch for InPlace-ABN and torchvision's ImageNet
weights, dropout 0.1 before the classifier and evaluation on whole images, as
in MMSegmentation; policies of the preset 'default' (protocol.preset='mib' or
'plop' reproduces the papers' label and averaging rules).

    bash tools/dist_train.sh \
        configs/lwf/lwf_deeplabv3_r101-d16_cityscapes-10-9.py 4
"""
_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/protocols/cityscapes_10-9.py',
    '../_base_/methods/lwf.py',
    '../_base_/schedules/cityscapes.py',
    '../_base_/default_runtime.py',
]
