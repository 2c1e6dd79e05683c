"""A step's ``config.py`` in MMSegmentation's own tools: the same images, labels and figures."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import DATASETS as MMSEG_DATASETS
from mmseg.registry import MODELS as MMSEG_MODELS
from PIL import Image

from mmseg_cil.engine.config.step_config import overridden_config
from mmseg_cil.engine.data import dataset_of_step
from mmseg_cil.engine.export.config import export_config
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.runner.step_runner import clear_instances
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.registry import DATASETS
from mmseg_cil.testing.tiny import CLASSES, PALETTE, make_data, tiny_config
from mmseg_cil.testing.walks import seasons

pytestmark = pytest.mark.filterwarnings('ignore')

DATASET = 'test_dataloader.dataset'
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]


def export(cfg, folder, step):
    """Writes the config of a step that was not trained; the walk, and the config as it is read."""
    with pytest.MonkeyPatch.context() as patch:
        # The parts that are not of the test set are other tests' matter.
        patch.setattr('mmseg_cil.engine.preflight.prepare.check_parts', lambda walk: None)
        walk = prepare_walk(cfg, folder / 'walk')
    own, _ = overridden_config(walk.cfg, walk.protocol, step, walk.train_images, 4)
    place = folder / f"it's a step_{step:02d}"
    export_config(walk, step, own, place)
    return walk, place / 'config.py', Config.fromfile(place / 'config.py')


def samples(dataset):
    dataset.full_init()
    return [dataset[i] for i in range(len(dataset))]


def assert_same_samples(walk, step, plain):
    """Assert that MMSegmentation loads for the config the samples that the walk tests with."""
    ours = samples(
        DATASETS.build(
            dataset_of_step(walk.cfg, step, 'test', str(walk.work_dir), walk.protocol.pools_splits)
        )
    )
    init_default_scope('mmseg')
    theirs = samples(MMSEG_DATASETS.build(plain.test_dataloader.dataset))
    assert len(ours) == len(theirs) > 0
    for our, their in zip(ours, theirs, strict=True):
        assert torch.equal(our['inputs'], their['inputs'])
        assert torch.equal(
            our['data_samples'].gt_sem_seg.data, their['data_samples'].gt_sem_seg.data
        )
        assert our['data_samples'].img_path == their['data_samples'].img_path
    return {
        int(label) for sample in theirs for label in sample['data_samples'].gt_sem_seg.data.unique()
    }


def comments(path):
    return [line for line in path.read_text().splitlines()[1:8] if line.startswith('# ')]


FOREGROUND = [['red', 'green'], ['blue'], ['grey']]


@pytest.mark.parametrize(
    ('changes', 'step', 'labels'),
    [
        # Classes that come later are background, or ignored, as the policy says.
        ({}, 0, {0, 1, 2, 255}),
        ({}, 2, {0, 1, 2, 3, 4, 255}),
        ({'protocol.policy': dict(unseen_test='ignore')}, 0, {0, 1, 2, 255}),
        ({'protocol.policy': dict(void_test='background')}, 1, {0, 1, 2, 3}),
        ({'protocol.policy': dict(background_test='ignore')}, 1, {1, 2, 3, 255}),
        ({'protocol.policy': dict(test_images='all')}, 0, {0, 1, 2, 255}),
        # Another order of the classes than the dataset's.
        (
            {'protocol.steps': [['background', 'grey', 'blue'], ['green', 'red']]},
            1,
            {0, 1, 2, 3, 4, 255},
        ),
        # The background alone.
        ({'protocol.steps': [['background'], ['red', 'green']]}, 0, {0, 255}),
        # A background that no mask holds, and none at all.
        (
            {
                'protocol.background': 'added',
                'protocol.steps': [['background', *CLASSES[1:3]], ['blue', 'grey']],
                'metainfo': dict(classes=['floor', *CLASSES[1:]], palette=PALETTE),
            },
            0,
            {0, 1, 2, 255},
        ),
        ({'protocol': seasons(['early'], ['late'], ['last'])}, 1, {0, 1, 2, 3, 4, 255}),
    ],
)
def test_images_and_labels_are_those_of_the_walk(data_root, tmp_path, changes, step, labels):
    changes = dict(changes)
    metainfo = changes.pop('metainfo', None)
    cfg = tiny_config(data_root, 'finetune')
    if 'protocol' in changes:
        cfg.protocol = changes.pop('protocol')
    cfg.merge_from_dict(changes)
    if metainfo:
        for loader in (cfg.train_dataloader, cfg.test_dataloader):
            loader.dataset.metainfo = metainfo
    walk, path, plain = export(cfg, tmp_path, step)
    assert assert_same_samples(walk, step, plain) == labels
    assert plain.test_dataloader.dataset.metainfo.classes == walk.seen_names(step)
    assert plain.model.decode_head.num_classes == len(walk.seen_names(step))
    assert not any('mmseg_cil' in line for line in path.read_text().splitlines())


@pytest.mark.parametrize(
    ('background', 'labels'), [('added', {0, 1, 2, 255}), ('none', {0, 1, 255})]
)
def test_reduced_labels_are_those_of_the_walk(data_root, tmp_path, background, labels):
    """As ADE20K: 0 in the masks is none of the classes, which count from 1."""
    cfg = tiny_config(data_root, 'finetune')
    cfg.protocol = dict(
        name='tiny',
        dataset='tiny',
        background=background,
        steps=[['red', 'green'], ['blue', 'grey']],
    )
    if background == 'added':
        cfg.protocol.steps[0].insert(0, 'background')
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.update(
            reduce_zero_label=True, metainfo=dict(classes=CLASSES[1:], palette=PALETTE[1:])
        )
        loader.dataset.pipeline[1].reduce_zero_label = True
    walk, _, plain = export(cfg, tmp_path, 0)
    assert assert_same_samples(walk, 0, plain) == labels
    assert 'reduce_zero_label' not in plain.pretty_text


def test_pooled_lists_and_paths_outside_the_root(data_root, tmp_path):
    cfg = tiny_config(data_root, 'finetune')
    first = cfg.test_dataloader.dataset.to_dict()
    second = {
        **first,
        'ann_file': str(data_root / 'lists/train.txt'),
        'data_root': str(tmp_path),
        'data_prefix': dict(
            img_path=str(data_root / 'images'), seg_map_path=str(data_root / 'masks')
        ),
    }
    cfg.test_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[dict(type='RepeatDataset', times=2, dataset=first), second]
    )
    walk, _, plain = export(cfg, tmp_path, 2)
    assert_same_samples(walk, 2, plain)
    assert walk.test_images == (18, 21, 24)


def test_test_masks_of_another_order_or_other_void_ids(data_root, tmp_path):
    cfg = tiny_config(data_root, 'finetune')
    cfg.test_dataloader.dataset.update(
        void_ids=[3],
        metainfo=dict(classes=['background', 'green', 'red', 'blue', 'grey'], palette=PALETTE),
    )
    walk, _, plain = export(cfg, tmp_path, 2)
    assert assert_same_samples(walk, 2, plain) == {0, 1, 2, 4, 255}
    assert 'void_ids' not in plain.pretty_text


OWN_PARTS = """
import mmengine
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.datasets import BaseSegDataset
from mmseg.models import FCNHead, ResNet
from mmseg.registry import DATASETS, MODELS, TRANSFORMS
{more}

@MODELS.register_module()
class OwnNet(ResNet):
    pass

@{models}.register_module()
class OwnHead(FCNHead):
    pass

@TRANSFORMS.register_module()
class Darken(BaseTransform):
    def transform(self, results):
        results['img'] = (results['img'] * 0.5).astype(np.uint8)
        return results

@DATASETS.register_module()
class OwnData(BaseSegDataset):
    METAINFO = dict(classes={classes!r}, palette={palette!r})

    def load_data_list(self):
        return [dict(img_path=f'{{self.data_root}}/images/{{name}}.png',
                     seg_map_path=f'{{self.data_root}}/masks/{{name}}.png', camera=i,
                     rays=np.zeros(3), label_map=None, reduce_zero_label=False, seg_fields=[])
                for i, name in enumerate(mmengine.list_from_file(self.ann_file))]
"""


@pytest.mark.parametrize('scope', ['mmseg', 'mmseg_cil'])
def test_own_parts_come_back_by_their_imports(data_root, tmp_path, monkeypatch, scope):
    module = f'own_parts_of_{scope}'
    more = 'from mmseg_cil.registry import MODELS as OURS' if scope == 'mmseg_cil' else ''
    text = OWN_PARTS.format(
        classes=CLASSES, palette=PALETTE, more=more, models='OURS' if more else 'MODELS'
    )
    for name in ('OwnNet', 'OwnHead', 'Darken', 'OwnData'):
        text = text.replace(name, f'{name}{len(scope)}')
    (tmp_path / f'{module}.py').write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    cfg = tiny_config(data_root, 'finetune')
    cfg.custom_imports = dict(imports=[module])
    __import__(module)
    cfg.model.backbone.type = f'OwnNet{len(scope)}'
    cfg.model.decode_head.type = f'OwnHead{len(scope)}'
    for name in ('train', 'test'):
        dataset = cfg[f'{name}_dataloader'].dataset
        for key in ('metainfo', 'data_prefix', 'img_suffix', 'seg_map_suffix'):
            dataset.pop(key)
        dataset.update(type=f'OwnData{len(scope)}')
    pipeline = cfg.test_dataloader.dataset.pipeline
    pipeline.insert(1, dict(type=f'Darken{len(scope)}'))
    walk, path, plain = export(cfg, tmp_path, 1)
    assert_same_samples(walk, 1, plain)
    # The list holds the values that the user's class gives an image, where a list can hold them.
    assert 'camera: 3' in (path.parent / 'test_set.yaml').read_text()
    assert any('rays' in line for line in comments(path))
    assert plain.custom_imports.imports[0] == module
    network = MMSEG_MODELS.build(plain.model)
    assert type(network.backbone).__name__ == f'OwnNet{len(scope)}'
    assert type(network.decode_head).__name__ == f'OwnHead{len(scope)}'
    # A transform of the user's own after the labels would see those of the step.
    assert not any('Darken' in line for line in comments(path))
    pipeline.insert(3, pipeline.pop(1))
    _, path, _ = export(cfg, tmp_path, 1)
    assert any(f'Darken{len(scope)} sees' in line for line in comments(path))


def test_differences_are_said_in_the_config(data_root, tmp_path):
    root = make_data(tmp_path / 'data')
    # No test image shows grey.
    names = [
        line
        for line in (root / 'lists/val.txt').read_text().split()
        if 4 not in np.array(Image.open(root / f'masks/{line}.png'))
    ]
    (root / 'lists/val.txt').write_text('\n'.join(names))
    cfg = tiny_config(root, 'finetune', **{'protocol.policy': dict(background_in_means=False)})
    cfg.test_dataloader.dataset.pipeline = [
        *LOAD,
        dict(type='ResizedCenterCrop', scale=24),
        dict(type='PackSegInputs'),
    ]
    _, path, plain = export(cfg, tmp_path, 2)
    text = ' '.join(comments(path))
    for part in ('mIoU_with_background', 'No test image shows grey', 'ResizedCenterCrop'):
        assert part in text
    assert [transform.type for transform in plain.test_pipeline] == [
        'LoadImageFromFile',
        'LoadAnnotations',
        'PackSegInputs',
    ]
    _, path, _ = export(tiny_config(data_root, 'finetune'), tmp_path, 2)
    assert comments(path) == []


def test_merged_tests_are_for_the_tool_with_tta(data_root, tmp_path):
    cfg = tiny_config(data_root, 'finetune')
    ways = [
        [dict(type='Resize', scale=(40, 32)), dict(type='Resize', scale=(80, 64))],
        [dict(type='LoadAnnotations', reduce_zero_label=False)],
        [dict(type='PackSegInputs')],
    ]
    merged = [dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=ways)]
    cfg.tta_pipeline = merged
    _, path, plain = export(cfg, tmp_path, 0)
    assert comments(path) == [] and plain.tta_model.type == 'SegTTAModel'
    assert plain.tta_pipeline[1].transforms[1] == [dict(type='LoadAnnotations')]
    cfg.test_dataloader.dataset.pipeline = merged
    _, path, plain = export(cfg, tmp_path, 0)
    assert '--tta' in comments(path)[0]
    assert [transform.type for transform in plain.test_pipeline] == [
        'LoadImageFromFile',
        'Resize',
        'LoadAnnotations',
        'PackSegInputs',
    ]
    assert len(plain.tta_pipeline[1].transforms[0]) == 2


def test_overrides_of_a_step_are_in_its_config(data_root, tmp_path):
    cfg = tiny_config(
        data_root,
        'finetune',
        **{
            'step_overrides.1': {
                'model.decode_head.dropout_ratio': 0.3,
                'test_cfg': dict(fp16=True),
            }
        },
    )
    _, _, plain = export(cfg, tmp_path, 1)
    assert plain.model.decode_head.dropout_ratio == 0.3
    assert plain.test_cfg == dict(type='TestLoop', fp16=True)


@pytest.fixture(scope='module')
def walked(data_root, tmp_path_factory):
    """A walk whose first step knows the background alone."""
    work_dir = tmp_path_factory.mktemp('plain') / 'walk'
    cfg = tiny_config(data_root, 'finetune')
    cfg.protocol.steps = [['background'], ['red', 'green', 'blue'], ['grey']]
    cfg.step_overrides = {0: dict(max_iters=20, lr=0.1), 'later': dict(max_iters=2)}
    WalkRunner(cfg, work_dir).run()
    return work_dir


def test_mmsegmentation_scores_as_the_walk(walked, tmp_path):
    ours = json.loads((walked / 'metrics.json').read_text())['steps']
    for step in range(3):
        folder = walked / f'step_{step:02d}'
        cfg = Config.fromfile(folder / 'config.py')
        cfg.update(work_dir=str(tmp_path / str(step)), load_from=str(folder / 'checkpoint.pth'))
        cfg.test_dataloader.num_workers = 0
        clear_instances()
        theirs = Runner.from_cfg(cfg).test()
        clear_instances()
        assert theirs['mIoU'] == pytest.approx(100 * ours[step]['mIoU']['all'], abs=0.006)
        assert theirs['aAcc'] == pytest.approx(100 * ours[step]['overall_accuracy'], abs=0.006)


TOOLS = """
import sys
sys.modules['mmseg_cil'] = None
folder, data, out = sys.argv[1:]
from mmseg.apis import MMSegInferencer, inference_model, init_model
model = init_model(folder + '/config.py', folder + '/checkpoint.pth', device='cpu')
logits = inference_model(model, data + '/images/val_000.png').seg_logits.data
assert logits.shape == (5, 32, 40)
inferencer = MMSegInferencer(folder + '/config.py', folder + '/checkpoint.pth', device='cpu')
names = ['background', 'red', 'green', 'blue', 'grey']
assert inferencer.visualizer.dataset_meta['classes'] == names
result = inferencer(data + '/images/val_000.png', out_dir=out)
assert result['predictions'].shape == (32, 40)
import mmseg, os, runpy
tool = os.path.join(os.path.dirname(mmseg.__file__), '.mim/tools/test.py')
sys.argv = [tool, folder + '/config.py', folder + '/checkpoint.pth', '--work-dir', out + '/test',
            '--show-dir', 'drawn', '--cfg-options', 'test_dataloader.num_workers=0']
runpy.run_path(tool, run_name='__main__')
"""


def test_mmsegmentations_tools_run_without_this_package(walked, data_root, tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', TOOLS, str(walked / 'step_02'), str(data_root), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / 'vis/val_000.png').is_file() and list(tmp_path.glob('pred/*.png'))
    assert len(list(tmp_path.rglob('vis_image/*.png'))) == 8
    # The tool keeps a copy of the config; that is read again, too.
    (copied,) = tmp_path.glob('test/config.py')
    assert Config.fromfile(copied).visualizer.type == 'SegLocalVisualizer'
