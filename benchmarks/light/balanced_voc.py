"""The frequent classes of a balanced sample of Pascal VOC, one new class a step, light setting.

905 training and 467 test images of about 256 pixels in VOC layout below ``data/voc_balanced``. The
other files balanced_*.py are grids of walks over these images.
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
# Shared by the grids. RCIL too goes on from the step 0 of the others, though it would train one
# with branches.
grid = dict(seeds=[1, 2, 3], baseline='mib', share_step_0='any')

_dataset = dict(
    type='PascalVOCDataset',
    data_root='data/voc_balanced',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
)
train_dataloader = dict(dataset=dict(**_dataset, ann_file='ImageSets/Segmentation/trainaug.txt'))
val_dataloader = dict(dataset=dict(**_dataset, ann_file='ImageSets/Segmentation/val.txt'))
test_dataloader = val_dataloader
