"""21 places under seven conditions by domain, 11 first and then five a step, light setting.

427 training and 186 test images of 240 x 180 pixels in Cityscapes layout below ``data/cities``,
eleven classes; fog, night, rain, snow, low sun and a poor sensor come by place. It is the grid of
docs/results.md, too:

    python tools/grid.py benchmarks/light/places.py --work-dir work_dirs/places
"""

_base_ = './light.py'
#: EWF's fusion where no class is new: half of the weights after a step, half of those before it.
_fused = dict(type='EWFHook', factor=0.5)
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
        'lwf_mc',
        'ilt',
        'mib',
        'plop',
        'rcil',
        dict(name='dfd', method='dfd', options={'method.custom_hooks.0.max_images': 96}),
        'vdfd_plain',
        dict(name='finetune_fused', method='finetune', options={'method.custom_hooks': [_fused]}),
        dict(name='vdfd', method='vdfd', options={'method.custom_hooks.1.max_images': 96}),
    ],
    seeds=[1, 2, 3],
    # Joint training has as many iterations as a walk.
    references=dict(nothing_learnt={}, joint={'step_overrides.0.max_iters': 840}),
    baseline='finetune',
    # RCIL too goes on from the step 0 of the others, though it would train one with branches.
    share_step_0='any',
)
# Mixed precision in bfloat16, channels last and a fused optimizer: half the time of a step.
channels_last = True
optim_wrapper = dict(type='BFloat16OptimWrapper', optimizer=dict(fused=True))

_dataset = dict(
    type='CityscapesDataset',
    data_root='data/cities',
    img_suffix='_leftImg8bit.jpg',
    seg_map_suffix='_gtFine_labelTrainIds.png',
)
_train = dict(img_path='leftImg8bit_adverse/train', seg_map_path='gtFine/train')
_val = dict(img_path='leftImg8bit_adverse/val', seg_map_path='gtFine/val')
train_dataloader = dict(dataset=dict(**_dataset, data_prefix=_train))
val_dataloader = dict(dataset=dict(**_dataset, data_prefix=_val))
test_dataloader = val_dataloader
