"""The embedded dataset: 21 classes told by shape and texture together, no download.

800 training and 200 test pictures of 96 x 96, drawn from a seed into data_root
on first use (some seconds) and reused. Crops of 80, batch 8.
"""

data_root = 'data/embedded_shapes'
crop_size = (80, 80)
global_batch_size = 8

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='EmbeddedShapesDataset', data_root=data_root, split='train', pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=20,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='EmbeddedShapesDataset', data_root=data_root, split='val', pipeline=test_pipeline
    ),
)
test_dataloader = val_dataloader

# A placeholder: the scheduler puts the incremental metric in its place.
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
