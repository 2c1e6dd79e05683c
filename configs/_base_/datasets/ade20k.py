"""ADE20K (ADEChallengeData2016): 20,210 training and 2,000 validation images, 150 classes.

Zhou et al., CVPR 2017. Mask value 0 is "other objects", 1 to 150 are the classes. Batch 24 and
the crop of MiB, PLOP and RCIL: a random area of 0.5 to 2.0 of the image, of an aspect from 3/4
to 4/3, resized to 512 (docs/published.md tells why; ade20k_zoom.py has the random scale with a
padded crop that was here before, and that MMSegmentation's own configs have).

global_batch_size is the batch over all processes; the scheduler divides it by their number
and sets batch_size. Labels are read as the mask files hold them: the view of a step maps
them, so that no transform here sets reduce_zero_label.
"""

dataset_type = 'ADE20KDataset'
data_root = 'data/ade/ADEChallengeData2016'
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
# score the centre 512 x 512, image and mask alike, as ade20k_paper.py does.
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
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
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
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# A placeholder: the scheduler puts the incremental metric in its place.
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
