"""The frequent classes of a balanced sample of Pascal VOC, one new class a step, light setting.

905 training and 467 test images of about 256 pixels in VOC layout below ``data/voc_balanced``. It
is the grid of docs/results.md, too:

    python tools/grid.py benchmarks/light/balanced_voc.py --work-dir work_dirs/balanced_voc
"""

_base_ = './light.py'
protocol = dict(
    name='balanced_4-1',
    dataset='voc',
    steps=[
        ['background', 'cat', 'person', 'cow', 'chair'],
        ['dog'],
        ['horse'],
        ['sheep'],
        ['sofa'],
    ],
    setting='overlapped',
    preset='default',
)
# Fewer images than by default for what is kept: a pass over them costs as many steps of training.
_fewer = {'method.custom_hooks.1.max_images': 128, 'method.custom_hooks.2.max_images': 256}
grid = dict(
    methods=[
        'finetune',
        'mib',
        dict(
            name='mib_frozen_norms',
            method='mib',
            options={'method.freezing': dict(norm_statistics=['decode_head'])},
        ),
        'plop',
        'rcil',
        dict(name='vdfd', method='vdfd', options=_fewer),
        dict(
            name='vdfd_not_reanchored',
            method='vdfd',
            options={**_fewer, 'method.regularisers.0.reanchor': False},
        ),
        dict(
            name='vdfd_without_its_penalties',
            method='vdfd',
            options={'method.regularisers': [], 'method.custom_hooks': [dict(type='EWFHook')]},
        ),
    ],
    seeds=[1, 2, 3],
    # Joint training has as many iterations as a walk.
    references=dict(nothing_learnt={}, joint={'step_overrides.0.max_iters': 1080}),
    baseline='mib',
    # RCIL too goes on from the step 0 of the others, though it would train one with branches.
    share_step_0='any',
)

_dataset = dict(
    type='PascalVOCDataset',
    data_root='data/voc_balanced',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
)
train_dataloader = dict(dataset=dict(**_dataset, ann_file='ImageSets/Segmentation/trainaug.txt'))
val_dataloader = dict(dataset=dict(**_dataset, ann_file='ImageSets/Segmentation/val.txt'))
test_dataloader = val_dataloader
