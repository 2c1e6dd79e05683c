"""``TestTimeAug`` in a test pipeline: merged as MMSegmentation's ``--tta`` merges."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from mmseg_cil.engine.runner.step_runner import clear_instances
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.testing.tiny import tiny_config

pytestmark = pytest.mark.filterwarnings('ignore')

LOAD, PACK = dict(type='LoadImageFromFile'), dict(type='PackSegInputs')
FLIP = dict(type='RandomFlip', direction='horizontal')


def ways(*flips, scales=(1.0,)):
    return [
        LOAD,
        dict(
            type='TestTimeAug',
            transforms=[
                [dict(type='Resize', scale_factor=scale, keep_ratio=True) for scale in scales],
                [dict(FLIP, prob=flip) for flip in flips],
                [dict(type='LoadAnnotations')],
                [PACK],
            ],
        ),
    ]


def walk(data_root, work_dir, pipeline=None, steps='0-1', **changes):
    cfg = tiny_config(data_root, 'mib', **changes)
    cfg.step_overrides = {0: dict(max_iters=2), 'later': dict(max_iters=2)}
    if pipeline:
        cfg.test_dataloader.dataset.pipeline = pipeline
    WalkRunner(cfg, work_dir, steps=steps).run()
    return json.loads((work_dir / 'metrics.json').read_text())['steps']


@pytest.fixture(scope='module')
def plain(data_root, tmp_path_factory):
    return walk(data_root, tmp_path_factory.mktemp('plain') / 'walk')


def test_one_way_is_a_plain_test(data_root, tmp_path, plain):
    assert walk(data_root, tmp_path, ways(0.0)) == plain


def test_several_ways_are_merged_as_mmsegmentations_tool_does(data_root, tmp_path, plain):
    ours = walk(data_root, tmp_path / 'walk', ways(0.0, 1.0, scales=(1.0, 1.5)))
    assert ours != plain
    for step in (0, 1):
        folder = tmp_path / f'walk/step_{step:02d}'
        cfg = Config.fromfile(folder / 'config.py')
        cfg.update(work_dir=str(tmp_path / str(step)), load_from=str(folder / 'checkpoint.pth'))
        cfg.test_dataloader.num_workers = 0
        # As tools/test.py does with --tta.
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.tta_model.module = cfg.model
        cfg.model = cfg.tta_model
        # The weights are those of the network inside.
        state = torch.load(folder / 'checkpoint.pth', weights_only=True)['state_dict']
        torch.save({f'module.{key}': value for key, value in state.items()}, tmp_path / 'w.pth')
        cfg.load_from = str(tmp_path / 'w.pth')
        clear_instances()
        theirs = Runner.from_cfg(cfg).test()
        clear_instances()
        assert theirs['mIoU'] == pytest.approx(100 * ours[step]['mIoU']['all'], abs=0.006)
        assert theirs['aAcc'] == pytest.approx(100 * ours[step]['overall_accuracy'], abs=0.006)
    # The pictures of the report are predicted alike.
    drawn = sorted((tmp_path / 'walk/step_01/predictions').glob('*.png'))
    assert drawn and np.array(Image.open(drawn[0])).shape == (32, 40)


def test_a_network_of_one_class_does_not_give_it_up(data_root, tmp_path):
    scores = walk(
        data_root,
        tmp_path,
        ways(0.0, 1.0),
        steps='0',
        **{'protocol.steps': [['background'], ['red', 'green', 'blue', 'grey']]},
    )
    assert scores[0]['mIoU']['all'] == 1.0
    assert len(list((tmp_path / 'report/samples').glob('*_truth.png'))) == 6


def test_training_is_validated_with_it_too(data_root, tmp_path):
    walk(data_root, tmp_path, ways(0.0, 1.0), steps='0', **{'train_cfg.val_interval': 2})
    lines = [
        text
        for path in tmp_path.glob('step_00/*/vis_data/scalars.json')
        for text in path.read_text().splitlines()
        if '"aAcc"' in text
    ]
    assert len(lines) == 1
