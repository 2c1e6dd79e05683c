"""M2KD with pruned snapshots (Zhou et al., arXiv 1904.01769) on voc 11-5.

Settings of the segmentation papers: DeepLabV3 with ResNet-101, output stride 16, crop 512,
total batch 24, SGD with Nesterov momentum, poly schedule (fcdl94/MiB,
argparser.py). Published: nothing for segmentation; the paper is on classification
(CIFAR-100, ImageNet subsets), and what is ours of the method is said in
configs/_base_/methods/m2kd_pruned.py. Not run here in full.

Deviations from those settings: an auxiliary head on stage 3, BatchNorm of torch
for InPlace-ABN and torchvision's ImageNet weights, dropout 0.1 before the
classifier and evaluation on whole images, as in MMSegmentation; policies of the preset
'default' (protocol.preset='mib' or 'plop' has the papers' label and averaging
rules).

    bash tools/dist_train.sh \
        configs/m2kd/m2kd_pruned_deeplabv3_r101-d16_aux_voc-11-5.py 4
"""
_base_ = [
    '../_base_/models/deeplabv3_r101-d16_aux.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/protocols/voc_11-5.py',
    '../_base_/methods/m2kd_pruned.py',
    '../_base_/schedules/voc.py',
    '../_base_/default_runtime.py',
]
