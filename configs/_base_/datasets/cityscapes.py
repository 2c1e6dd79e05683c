"""Cityscapes: 2,975 training and 500 validation images, 19 classes, by class or by city.

Cordts et al., CVPR 2016. Below data_root: leftImg8bit and gtFine, with the
*_gtFine_labelTrainIds.png that MMSegmentation's tools/dataset_converters/cityscapes.py
writes. Batch 24 and 512 crops as PLOP and RCIL; they crop a random area
(RandomResizedCrop), here it is MMSegmentation's random scale with a plain crop.

global_batch_size is the batch over all processes; the scheduler divides it by their number
and sets batch_size. Labels are read as the mask files hold them: the view of a step maps
them, so that no transform here sets reduce_zero_label.
"""

dataset_type = 'CityscapesDataset'
data_root = 'data/cityscapes'
crop_size = (512, 512)
global_batch_size = 24

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=1.0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
# The whole image, scored at its own size. MiB, PLOP and RCIL resize the short side to 512 and
# score the centre 512 x 512, image and mask alike, as cityscapes_paper.py does.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 1024), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# A placeholder: the scheduler puts the incremental metric in its place.
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
