"""Pascal VOC 2012 with the masks of SBD: 10,582 training and 1,449 validation images.

Below data_root: VOC 2012 itself (VOCdevkit), a folder SegmentationClassAug with the training
masks of both, and the list ImageSets/Segmentation/trainaug.txt. The extra masks are those of
Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011 (SBD);
MMSegmentation's tools/dataset_converters/voc_aug.py makes masks and list from that download.
The list must have 10,582 names (1,464 of VOC and 9,118 of SBD), and each a mask in the folder.
512 crops and batch 24 as MiB, PLOP and RCIL; they crop a random area (RandomResizedCrop),
here it is MMSegmentation's random scale with a plain crop.

global_batch_size is the batch over all processes; the scheduler divides it by their number
and sets batch_size. Labels are read as the mask files hold them: the view of a step maps
them, so that no transform here sets reduce_zero_label.
"""
dataset_type = 'PascalVOCDataset'
data_root = 'data/VOCdevkit/VOC2012'
crop_size = (512, 512)
global_batch_size = 24

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=1.0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
# The whole image, scored at its own size. MiB, PLOP and RCIL resize the short side to 512 and
# score the centre 512 x 512, image and mask alike: numbers differ a little from theirs.
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
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
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='ImageSets/Segmentation/val.txt',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader

# A placeholder: the scheduler puts the incremental metric in its place.
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
