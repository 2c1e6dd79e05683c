"""DKD, one random group an iteration (RDKD; Shi et al., arXiv 2405.09820) on voc 15-1.

Settings: the publication classifies images, so these are those of the
segmentation baselines: DeepLabV3 with ResNet-101, output stride 16, crop 512,
total batch 24, SGD with Nesterov momentum, poly schedule (fcdl94/MiB,
argparser.py).
Published mIoU: none, the publication has no segmentation.
Not run here in full.

Deviations: what configs/_base_/methods/dkd.py names as ours, its weight chosen
by trial on the embedded dataset.

Deviations from the papers' settings (* --as-published takes them back,
docs/published.md): batch norm of torch for InPlace-ABN; torchvision's ImageNet
weights; *ReLU; *last stage dilated [1, 2, 2]; *ASPP fused by 3x3; *dropout 0.1
before the classifier; *evaluation on whole images; *preset 'default' for
'plop'; *a last iteration of rate 0; *batches over the end of an epoch; single
precision.

    bash tools/dist_train.sh \
        configs/dkd/dkd_random_deeplabv3_r101-d16_voc-15-1.py 4
"""

_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/protocols/voc_15-1.py',
    '../_base_/methods/dkd_random.py',
    '../_base_/schedules/voc.py',
    '../_base_/default_runtime.py',
]
