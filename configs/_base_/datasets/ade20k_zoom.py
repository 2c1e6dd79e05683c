"""ADE20K, with MMSegmentation's random scale and padded crop.

As ade20k.py, with the training crop that it had up to version 0.1: the short side scaled to
256 to 1024 pixels and a crop of 512, padded where the image is smaller. --dataset ade20k_zoom
repeats walks of that time.
"""

_base_ = './ade20k.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=1.0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
