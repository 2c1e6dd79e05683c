"""Joint training, the upper bound, on cityscapes domain joint (all cities at once).

Paper settings: DeepLabV3 with ResNet-101, output stride 16, crop 512, total
batch 24, SGD with Nesterov momentum, poly schedule (fcdl94/MiB, argparser.py).
Published mIoU over all classes: none was found. By the split it is trained on
the training part of all cities, Frankfurt, Lindau and Munster included, so it is
not the usual Cityscapes figure; that one is cityscapes_joint.
Not run here in full.

Deviations from the papers' settings (* --as-published takes them back,
docs/published.md): batch norm of torch for InPlace-ABN; torchvision's ImageNet
weights; *ReLU; *last stage dilated [1, 2, 2]; *ASPP fused by 3x3; *dropout 0.1
before the classifier; *random scale and padded crop; *evaluation on whole
images; *preset 'default' for 'plop'; *the clean split for 'legacy'; *a last
iteration of rate 0; *batches over the end of an epoch; single precision.

    bash tools/dist_train.sh \
        configs/joint/joint_deeplabv3_r101-d16_cityscapes-domain-joint.py 4
"""

_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/protocols/cityscapes_domain_joint.py',
    '../_base_/methods/joint.py',
    '../_base_/schedules/cityscapes.py',
    '../_base_/default_runtime.py',
]
