"""M2KD on 2,445 real Pascal VOC images, classes listed in the config.

Reproduces no published figure: the images are a sample of VOC 2012 with the
long side at 256, the crop is 160, and the schedule is short (400, and 200
iterations of 8 images for each later step). It shows a protocol whose classes
the config itself lists: background, cat, dog and person, then horse, cow and
sheep, the frequent classes of the sample. Published: nothing, the protocol is
of our making and the paper (arXiv 1904.01769) on classification; what is ours of the
method is said in configs/_base_/methods/m2kd.py.

Deviations from the segmentation papers: ResNet-50 for ResNet-101, an auxiliary head, frozen
norm statistics, AdamW, sizes and schedule as above, no InPlace-ABN.

    python tools/train.py configs/m2kd/m2kd_deeplabv3_r50-caffe_aux_voc-real-animals.py \
        --cfg-options model.backbone.init_cfg.checkpoint=PATH/resnet50_caffe_imagenet_fp16.pth
"""

_base_ = [
    '../_base_/models/deeplabv3_r50-caffe_aux.py',
    '../_base_/datasets/voc_real_160.py',
    '../_base_/protocols/voc_real_animals.py',
    '../_base_/methods/m2kd.py',
    '../_base_/schedules/voc_real.py',
    '../_base_/default_runtime.py',
]
model = dict(data_preprocessor=dict(size=(160, 160)))
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=50))
