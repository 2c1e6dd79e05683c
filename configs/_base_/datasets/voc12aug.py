"""Pascal VOC 2012 with the masks of SBD: 10,582 training and 1,449 validation images.

Below data_root: VOC 2012 itself (VOCdevkit), a folder SegmentationClassAug with the training
masks of both, and the list ImageSets/Segmentation/trainaug.txt. The extra masks are those of
Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011 (SBD);
MMSegmentation's tools/dataset_converters/voc_aug.py makes masks and list from that download.
The list must have 10,582 names (1,464 of VOC and 9,118 of SBD), and each a mask in the folder.
Batch 24 and the crop of MiB, PLOP and RCIL: a random area of 0.5 to 2.0 of the image, of an
aspect from 3/4 to 4/3, resized to 512. docs/published.md has the figures for which it was
chosen; voc12aug_zoom.py has the random scale with a padded crop that was here before, and
that MMSegmentation's own configs have.

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
    dict(type='RandomResizedCrop', scale=512, crop_ratio_range=(0.5, 2.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
# The whole image, scored at its own size. MiB, PLOP and RCIL resize the short side to 512 and
# score the centre 512 x 512, image and mask alike, as voc12aug_paper.py does.
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
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# A placeholder: the scheduler puts the incremental metric in its place.
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
