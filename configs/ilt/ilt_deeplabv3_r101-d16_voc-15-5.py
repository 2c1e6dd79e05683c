"""ILT (Michieli and Zanuttigh, ICCV workshops 2019) on voc 15-5.

Paper settings: DeepLabV3 with ResNet-101, output stride 16, crop 512, total
batch 24, SGD with Nesterov momentum, poly schedule (fcdl94/MiB, argparser.py).
Published mIoU over all classes after the last step: disjoint 57.3 / overlapped
59.9 (MiB paper (CVPR 2020), without background); overlapped 60.45 (PLOP paper,
with background); disjoint 58.9 / overlapped 61.3 (RCIL README, with
background).
Not run here in full: the figure is the paper's, not ours.

Deviations from the papers' settings (* --as-published takes them back,
docs/published.md): batch norm of torch for InPlace-ABN; torchvision's ImageNet
weights; *ReLU; *last stage dilated [1, 2, 2]; *ASPP fused by 3x3; *dropout 0.1
before the classifier; *evaluation on whole images; *preset 'default' for 'mib';
*new rows of deviation 0.01 and bias 0; *a last iteration of rate 0; *batches
over the end of an epoch.

    bash tools/dist_train.sh \
        configs/ilt/ilt_deeplabv3_r101-d16_voc-15-5.py 4
"""

_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/protocols/voc_15-5.py',
    '../_base_/methods/ilt.py',
    '../_base_/schedules/voc.py',
    '../_base_/default_runtime.py',
]
