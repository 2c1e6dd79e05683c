"""DF-GR (Choi, El-Khamy and Lee, arXiv 2106.09835) on voc 15-1.

Settings of the segmentation papers: DeepLabV3 with ResNet-101, output stride 16, crop 512,
total batch 24, SGD with Nesterov momentum, poly schedule (fcdl94/MiB,
argparser.py). Published: nothing for segmentation; the paper is on classification
(CIFAR-100, ImageNet), and what is ours of the method is said in
configs/_base_/methods/dfgr.py. Not run here in full.

Twelve generated images come beside the 24 real ones; they are drawn at 256 x
256 and enlarged to the crop.

Deviations from the papers' settings (* --as-published takes them back,
docs/published.md): batch norm of torch for InPlace-ABN; torchvision's ImageNet
weights; *ReLU; *last stage dilated [1, 2, 2]; *ASPP fused by 3x3; *dropout 0.1
before the classifier; *evaluation on whole images; *preset 'default' for
'plop'; *a last iteration of rate 0; *batches over the end of an epoch; single
precision.

    bash tools/dist_train.sh \
        configs/dfgr/dfgr_deeplabv3_r101-d16_voc-15-1.py 4
"""

_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/protocols/voc_15-1.py',
    '../_base_/methods/dfgr.py',
    '../_base_/schedules/voc.py',
    '../_base_/default_runtime.py',
]
