"""LwF (Li and Hoiem, ECCV 2016) on voc 10-1.

Paper settings: DeepLabV3 with ResNet-101, output stride 16, crop 512, total
batch 24, SGD with Nesterov momentum, poly schedule (fcdl94/MiB, argparser.py).
Published mIoU over all classes after the last step: disjoint 4.3 / overlapped
4.8 (RCIL README, with background).
Not run here in full: the figure is the paper's, not ours.

Deviations from the papers' settings (* --as-published takes them back,
docs/published.md): batch norm of torch for InPlace-ABN; torchvision's ImageNet
weights; *ReLU; *last stage dilated [1, 2, 2]; *ASPP fused by 3x3; *dropout 0.1
before the classifier; *evaluation on whole images; *preset 'default' for
'plop'; *new rows of deviation 0.01 and bias 0; *a last iteration of rate 0;
*batches over the end of an epoch; single precision.

    bash tools/dist_train.sh \
        configs/lwf/lwf_deeplabv3_r101-d16_voc-10-1.py 4
"""

_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/protocols/voc_10-1.py',
    '../_base_/methods/lwf.py',
    '../_base_/schedules/voc.py',
    '../_base_/default_runtime.py',
]
