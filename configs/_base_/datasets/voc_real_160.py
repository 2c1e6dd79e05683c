"""A small set in VOC layout, images of about 256 pixels: 160 crops, batch 8.

Below data_root: JPEGImages, SegmentationClassAug and ImageSets/Segmentation/{trainaug,val}.txt.
The config that uses it sets the padding to the crop, which a dataset file cannot do beside
a model file: model = dict(data_preprocessor=dict(size=_base_.crop_size)).

global_batch_size is the batch over all processes; the scheduler divides it by their number
and sets batch_size. Labels are read as the mask files hold them: the view of a step maps
them, so that no transform here sets reduce_zero_label.
"""

dataset_type = 'PascalVOCDataset'
data_root = 'data/voc_real'
crop_size = (160, 160)
global_batch_size = 8

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(256, 256), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=1.0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
# The whole image, scored at its own size. MiB, PLOP and RCIL resize the short side to 512 and
# score the centre 512 x 512, image and mask alike: numbers differ a little from theirs.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(256, 256), keep_ratio=True),
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
        ann_file='ImageSets/Segmentation/trainaug.txt',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
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
        ann_file='ImageSets/Segmentation/val.txt',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# A placeholder: the scheduler puts the incremental metric in its place.
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
