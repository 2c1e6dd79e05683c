"""DFD (Li et al., Pattern Recognition 2023) on voc 11-5.

Settings: the authors' segmentation code is not public and says only that it
builds on PLOP and RCIL, so these are PLOP's: DeepLabV3 with ResNet-101, output
stride 16, crop 512, total batch 24, SGD with Nesterov momentum, poly schedule
(CVPR2021_PLOP, argparser.py).
Published mIoU over all classes after the last step: none; the authors report
segmentation on Cityscapes by city only.
Not run here in full.

Deviations: the weight of the regulariser, which was swept on another walk
(docs/vdfd.md) and may need another value here, and what
configs/_base_/methods/dfd.py names as our choice.

Deviations from the papers' settings (* --as-published takes them back,
docs/published.md): batch norm of torch for InPlace-ABN; torchvision's ImageNet
weights; *ReLU; *last stage dilated [1, 2, 2]; *ASPP fused by 3x3; *dropout 0.1
before the classifier; *evaluation on whole images; *preset 'default' for
'plop'; *a last iteration of rate 0; *batches over the end of an epoch; single
precision.

    bash tools/dist_train.sh \
        configs/dfd/dfd_deeplabv3_r101-d16_voc-11-5.py 4
"""

_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/protocols/voc_11-5.py',
    '../_base_/methods/dfd.py',
    '../_base_/schedules/voc.py',
    '../_base_/default_runtime.py',
]
