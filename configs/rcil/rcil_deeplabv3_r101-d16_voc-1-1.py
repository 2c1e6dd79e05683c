"""RCIL (Zhang et al., CVPR 2022) on voc 1-1.

Paper settings: DeepLabV3 with ResNet-101, output stride 16, crop 512, total
batch 24, SGD with Nesterov momentum, poly schedule (RCIL, argparser.py), lr
0.02 at step 0 and 0.001 at later ones (RCIL, scripts/voc).
There is no script of this name: settings are those of the other VOC tasks.
Published mIoU over all classes after the last step: none is known under this
name.
Not run here in full: the figure is the paper's, not ours.

Deviations from the papers' settings (* --as-published takes them back,
docs/published.md): batch norm of torch for InPlace-ABN; torchvision's ImageNet
weights; *ReLU; *activated stem; *last stage dilated [1, 2, 2]; *ASPP fused by
3x3; *dropout 0.1 before the classifier; *evaluation on whole images; *preset
'default' for 'plop'; *a last iteration of rate 0; *batches over the end of an
epoch; single precision; *a merge without the eps of a second norm; statistics
of the merged norms.

    bash tools/dist_train.sh \
        configs/rcil/rcil_deeplabv3_r101-d16_voc-1-1.py 4
"""

_base_ = [
    '../_base_/models/deeplabv3_r101-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/protocols/voc_1-1.py',
    '../_base_/methods/rcil.py',
    '../_base_/schedules/voc_rcil.py',
    '../_base_/default_runtime.py',
]
