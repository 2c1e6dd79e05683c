"""LwF (Li and Hoiem, ECCV 2016) on cityscapes domain 1-1.

Paper settings: DeepLabV3 with ResNet-101, output stride 16, crop 512, total
batch 24, SGD with Nesterov momentum, poly schedule (fcdl94/MiB, argparser.py).
Published mIoU over all classes after the last step: 33.0 (RCIL README), 42.93
(VDFD, TPAMI 2023), both on the leaking split.
Not run here in full: the figure is the paper's, not ours.

Deviations from the papers' settings (* --as-published takes them back,
docs/published.md): batch norm of torch for InPlace-ABN; torchvision's ImageNet
weights; *ReLU; *last stage dilated [1, 2, 2]; *ASPP fused by 3x3; *dropout 0.1
before the classifier; *random scale and padded crop; *evaluation on whole
images; *preset 'default' for 'plop'; *the clean split for 'legacy'; *a last
iteration of rate 0; *batches over the end of an epoch; single precision.

    bash tools/dist_train.sh \
        configs/lwf/lwf_deeplabv3_r101-d16_cityscapes-domain-1-1.py 4
"""

_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/protocols/cityscapes_domain_1-1.py',
    '../_base_/methods/lwf.py',
    '../_base_/schedules/cityscapes.py',
    '../_base_/default_runtime.py',
]
