"""Fine-tuning on 2,445 real Pascal VOC images, domains listed in the config.

Reproduces no published figure: the images are a sample of VOC 2012 with the
long side at 256, the crop is 160, and the schedule is short (400, 200 and 200
iterations of 8 images). It shows a protocol whose domains the config itself
lists by the pattern of their file names: the years of the photographs, with all
classes in every step. Published: nothing, the protocol is of our making.

Deviations from the papers: ResNet-50 for ResNet-101, frozen norm statistics, AdamW,
sizes and schedule as above, no InPlace-ABN.

    python tools/train.py configs/finetune/finetune_deeplabv3_r50-caffe_voc-real-years.py \
        --cfg-options model.backbone.init_cfg.checkpoint=PATH/resnet50_caffe_imagenet_fp16.pth
"""

_base_ = [
    '../_base_/models/deeplabv3_r50-caffe.py',
    '../_base_/datasets/voc_real_160.py',
    '../_base_/protocols/voc_real_years.py',
    '../_base_/methods/finetune.py',
    '../_base_/schedules/voc_real.py',
    '../_base_/default_runtime.py',
]
model = dict(data_preprocessor=dict(size=(160, 160)))
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=50))
