"""PLOP (Douillard et al., CVPR 2021) on voc 11-1.

Paper settings: DeepLabV3 with ResNet-101, output stride 16, crop 512, total
batch 24, SGD with Nesterov momentum, poly schedule (CVPR2021_PLOP,
argparser.py), 10 epochs at each later step (its script of 10-1).
Published mIoU over all classes after the last step: disjoint 8.4 / overlapped
30.5 (RCIL README, with background), under the customary name 10-1.
Not run here in full: the figure is the paper's, not ours.

Deviations from the papers' settings (* --as-published takes them back,
docs/published.md): batch norm of torch for InPlace-ABN; torchvision's ImageNet
weights; *ReLU; *last stage dilated [1, 2, 2]; *ASPP fused by 3x3; *dropout 0.1
before the classifier; *evaluation on whole images; *preset 'default' for
'plop'; *a last iteration of rate 0; *batches over the end of an epoch; single
precision; *a true median, whole images for the thresholds, full weight without
background; thresholds shared by all processes.

    bash tools/dist_train.sh \
        configs/plop/plop_deeplabv3_r101-d16_voc-11-1.py 4
"""

_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/protocols/voc_11-1.py',
    '../_base_/methods/plop.py',
    '../_base_/schedules/voc_11-1_plop.py',
    '../_base_/default_runtime.py',
]
