"""ADE20K as MiB, PLOP and RCIL cropped and scored it.

As ade20k.py, with their random resized crop of 512 (an area of 0.5 to 2.0 of the image, aspect
3/4 to 4/3; fcdl94/MiB run.py and dataset/transform.py), the short side of test images at 512 and
their centre of 512 x 512 scored, image and label alike, and passes over the training images that
end with their last whole batch. Part of --as-published.
"""

_base_ = './ade20k.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResizedCrop', scale=512, crop_ratio_range=(0.5, 2.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='ResizedCenterCrop', scale=512),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type='GlobalPositionSampler', drop_partial=True),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
