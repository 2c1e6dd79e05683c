"""iCaRL with exemplars (Rebuffi et al., CVPR 2017: LwF-MC and a memory) on voc 2-1.

Paper settings: DeepLabV3 with ResNet-101, output stride 16, crop 512, total
batch 24, SGD with Nesterov momentum, poly schedule (fcdl94/MiB, argparser.py).
Memory: 100 images in all, by herding (`configs/_base_/methods/icarl.py`).
Published mIoU over all classes after the last step: none is known with
exemplars in this form.
Not run here in full.

Deviations: classified by the classifier, not by the nearest mean of exemplars;
BatchNorm of torch for InPlace-ABN and torchvision's ImageNet weights, dropout
0.1 before the classifier and evaluation on whole images, as in MMSegmentation;
policies of the preset 'default' (protocol.preset='mib' or 'plop' reproduces the
papers' label and averaging rules).

    bash tools/dist_train.sh \
        configs/icarl/icarl_deeplabv3_r101-d16_voc-2-1.py 4
"""
_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/protocols/voc_2-1.py',
    '../_base_/methods/icarl.py',
    '../_base_/schedules/voc.py',
    '../_base_/default_runtime.py',
]
