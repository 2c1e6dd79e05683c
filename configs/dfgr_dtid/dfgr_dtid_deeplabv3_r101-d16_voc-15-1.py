"""DF-GR with DT-ID (Choi, El-Khamy and Lee, arXiv 2106.09835) on voc 15-1.

Settings of the segmentation papers: DeepLabV3 with ResNet-101, output stride 16, crop 512,
total batch 24, SGD with Nesterov momentum, poly schedule (fcdl94/MiB,
argparser.py). Published: nothing for segmentation; the paper is on classification
(CIFAR-100, ImageNet), and what is ours of the method is said in
configs/_base_/methods/dfgr_dtid.py. Not run here in full.

Deviations from those settings: BatchNorm of torch for InPlace-ABN and torchvision's
ImageNet weights, dropout 0.1 before the classifier and evaluation on whole
images, as in MMSegmentation; policies of the preset 'default'
(protocol.preset='mib' or 'plop' has the papers' label and averaging rules).
Twelve generated images come beside the 24 real ones; they are drawn at 256 x 256
and enlarged to the crop.

    bash tools/dist_train.sh \
        configs/dfgr_dtid/dfgr_dtid_deeplabv3_r101-d16_voc-15-1.py 4
"""
_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/protocols/voc_15-1.py',
    '../_base_/methods/dfgr_dtid.py',
    '../_base_/schedules/voc.py',
    '../_base_/default_runtime.py',
]
