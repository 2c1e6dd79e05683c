"""MiB on 2,445 real Pascal VOC images, 11-5 overlapped: a real walk for a small machine.

Reproduces no published figure: the images are a sample of VOC 2012 with the
long side at 256, the crop is 160, and the schedule is short (400, 200 and 200
iterations of 8 images). It shows on real photographs what a walk does in about
half an hour on two CPU cores. Published on the whole of VOC 10-5 (the customary
name of 11-5): no table of MiB is known for it.

Deviations from the papers: ResNet-50 for ResNet-101, frozen norm statistics, AdamW,
sizes and schedule as above, no InPlace-ABN.

    python tools/train.py configs/mib/mib_deeplabv3_r50-caffe_voc-real-11-5.py \
        --cfg-options model.backbone.init_cfg.checkpoint=PATH/resnet50_caffe_imagenet_fp16.pth
"""

_base_ = [
    '../_base_/models/deeplabv3_r50-caffe.py',
    '../_base_/datasets/voc_real_160.py',
    '../_base_/protocols/voc_11-5.py',
    '../_base_/methods/mib.py',
    '../_base_/schedules/voc_real.py',
    '../_base_/default_runtime.py',
]
model = dict(data_preprocessor=dict(size=(160, 160)))
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=50))
