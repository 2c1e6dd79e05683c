"""M2KD (Zhou et al., arXiv 1904.01769) on voc 15-1.

Settings of the segmentation papers: DeepLabV3 with ResNet-101, output stride 16, crop 512,
total batch 24, SGD with Nesterov momentum, poly schedule (fcdl94/MiB,
argparser.py). Published: nothing for segmentation; the paper is on classification
(CIFAR-100, ImageNet subsets), and what is ours of the method is said in
configs/_base_/methods/m2kd.py. Not run here in full.

Deviations: an auxiliary head on stage 3.

Deviations from the papers' settings: batch norm of torch for InPlace-ABN;
torchvision's ImageNet weights; ReLU; last stage dilated [1, 2, 2]; ASPP fused
by 3x3; dropout 0.1 before the classifier; evaluation on whole images; preset
'default' for 'plop'; a last iteration of rate 0; batches over the end of an
epoch; single precision.

    bash tools/dist_train.sh \
        configs/m2kd/m2kd_deeplabv3_r101-d16_aux_voc-15-1.py 4
"""

_base_ = [
    '../_base_/models/deeplabv3_r101-d16_aux.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/protocols/voc_15-1.py',
    '../_base_/methods/m2kd.py',
    '../_base_/schedules/voc.py',
    '../_base_/default_runtime.py',
]
