"""21 places under seven conditions by domain, 11 first and then five a step, light setting.

427 training and 186 test images of 240 x 180 pixels in Cityscapes layout below ``data_root``,
eleven classes; fog, night, rain, snow, low sun and a poor sensor come by place. It is the grid of
docs/results.md, too:

    python tools/grid.py benchmarks/light/places.py --work-dir work_dirs/places
"""

_base_ = './light.py'
places = [f'place{number:02d}' for number in range(1, 22)]
protocol = dict(
    name='places_11-5',
    dataset='cityscapes',
    domains=[dict(name=place, pattern=f'{place}_*') for place in places],
    domain_steps=[places[:11], places[11:16], places[16:]],
    preset='default',
)
grid = dict(
    methods=[
        'finetune',
        'lwf',
        'mib',
        'plop',
        'rcil',
        'vdfd',
        dict(name='vdfd_100', method='vdfd', options={'method.regularisers.0.loss_weight': 100.0}),
    ],
    seeds=[1, 2, 3],
    # Joint training has as many iterations as a walk.
    references=dict(nothing_learnt={}, joint={'step_overrides.0.max_iters': 840}),
    baseline='finetune',
    # RCIL too goes on from the step 0 of the others, though it would train one with branches.
    share_step_0='any',
)

data_root = 'data/cities'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResizedCrop', scale=112, crop_ratio_range=(0.5, 2.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(448, 112), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
_data = dict(
    type='CityscapesDataset',
    data_root=data_root,
    img_suffix='_leftImg8bit.jpg',
    seg_map_suffix='_gtFine_labelTrainIds.png',
)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        **_data,
        data_prefix=dict(img_path='leftImg8bit_adverse/train', seg_map_path='gtFine/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **_data,
        data_prefix=dict(img_path='leftImg8bit_adverse/val', seg_map_path='gtFine/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
