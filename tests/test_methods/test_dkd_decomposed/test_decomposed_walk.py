"""Walks with decomposed distillation: its losses, its plain checkpoints, and all that walks do."""

import json
import math

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmseg_cil.engine.config.compose import read_piece
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.engine.runner.step_runner import clear_instances
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.memory.memory import MemorySettings
from mmseg_cil.models.network_change import CHANGE_NAME
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import logged, seasons

METHOD = 'dkd_decomposed'


@pytest.fixture(scope='module')
def walked(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('decomposed') / 'walk'
    cfg = tiny_config(data_root, METHOD)
    # So few iterations must predict some foreground.
    cfg.method.loss_decode[0].pos_weight = 30.0
    cfg.step_overrides = {0: dict(max_iters=8, lr=0.1), 'later': dict(max_iters=2, lr=0.05)}
    WalkRunner(cfg, work_dir, steps='0-1').run()
    return work_dir


def test_a_walk_has_all_terms_and_nothing_is_infinite(walked):
    named = [
        {name for name in logged(walked, step)[-1] if name.startswith(('decode.loss', 'distill'))}
        for step in (0, 1)
    ]
    assert named[0] == {'decode.loss_mbce', 'decode.loss_ac'}
    distilled = {'distill.loss_kd', 'distill.loss_dkd_pos', 'distill.loss_dkd_neg'}
    assert named[1] == named[0] | distilled
    lines = [*logged(walked, 0), *logged(walked, 1)]
    assert all(math.isfinite(line['loss']) for line in lines)


def test_the_background_of_every_checkpoint_is_a_zero_row(walked):
    for step in (0, 1):
        state = weights(walked, step)
        for name in ('decode_head', 'auxiliary_head'):
            assert not state[f'{name}.conv_seg.weight'][0].any()
            assert not state[f'{name}.conv_seg.bias'][0].any()
            assert state[f'{name}.conv_seg.weight'][1:].any()
        kept = torch.load(walked / f'step_0{step}' / CHANGE_NAME, weights_only=True)
        assert set(kept) == {
            f'{name}.{part}'
            for name in ('decode_head', 'auxiliary_head')
            for part in ('weight', 'bias')
        }


def scores_of_mmsegmentation(work_dir, step, out):
    folder = work_dir / f'step_{step:02d}'
    cfg = Config.fromfile(folder / 'config.py')
    cfg.update(work_dir=str(out), load_from=str(folder / 'checkpoint.pth'))
    cfg.test_dataloader.num_workers = 0
    clear_instances()
    scores = Runner.from_cfg(cfg).test()
    clear_instances()
    return scores


@pytest.mark.filterwarnings('ignore')
def test_mmsegmentation_scores_the_plain_checkpoint_as_the_walk(walked, tmp_path):
    ours = json.loads((walked / 'metrics.json').read_text())['steps']
    for step in (0, 1):
        theirs = scores_of_mmsegmentation(walked, step, tmp_path / str(step))
        assert theirs['mIoU'] == pytest.approx(100 * ours[step]['mIoU']['all'], abs=0.006)
        assert theirs['aAcc'] == pytest.approx(100 * ours[step]['overall_accuracy'], abs=0.006)
    assert any(value > 0 for name, value in ours[0]['IoU'].items() if name != 'background')
    assert 'predicts by' not in (walked / 'step_01/config.py').read_text()


def test_walks_without_a_row_to_spare_are_refused_before_training(data_root, tmp_path):
    cfg = tiny_config(data_root, METHOD)
    cfg.protocol.background = 'none'
    with pytest.raises(InputError, match='no background: take --method mib'):
        WalkRunner(cfg, tmp_path / 'none').prepare()
    cfg = tiny_config(data_root, METHOD)
    cfg.protocol = seasons(['early', 'late'], ['last'])
    with pytest.raises(InputError, match='a walk by domain brings none'):
        WalkRunner(cfg, tmp_path / 'domains').prepare()


def test_a_rehearsed_walk_begins_without_an_auxiliary_row(data_root, tmp_path):
    WalkRunner(tiny_config(data_root, METHOD, rehearsal=True), tmp_path).prepare()


@pytest.mark.parametrize(
    ('protocol', 'weights'),
    [
        ('voc_15-1', (2.0, 1.0)),
        ('voc_19-1', (2.0, 1.0)),
        ('ade20k_100-10', (35.0, 35.0)),
        ('cityscapes_14-1', (1.0, 1.0)),
    ],
)
@pytest.mark.parametrize(
    ('method', 'void'), [(METHOD, 'ignored'), (f'{METHOD}_paper', 'background')]
)
def test_positives_weigh_as_in_the_official_scripts(method, void, protocol, weights):
    parts = method_of(read_piece('method', method), protocol)
    cross_entropy, auxiliary = (MODELS.build(loss) for loss in parts['loss_decode'])
    assert (cross_entropy.first_pos_weight, cross_entropy.pos_weight) == weights
    assert cross_entropy.void == auxiliary.void == void
    (distiller,) = (MODELS.build(part) for part in parts['distillers'])
    assert distiller.logit_weight == distiller.positive_weight == distiller.negative_weight == 5


@pytest.mark.parametrize(('protocol', 'budget'), [('voc_15-1', 100), ('ade20k_50-50', 300)])
def test_exemplars_are_those_of_the_official_scripts(protocol, budget):
    parts = method_of(read_piece('method', 'dkd_decomposed_m'), protocol)
    memory = MemorySettings.from_config(parts.pop('memory'))
    assert (memory.budget, memory.selection, memory.confidence) == (budget, 'balanced', 0.9)
    # The official code concatenates exemplars and images.
    assert memory.ratio is None
    plain = method_of(read_piece('method', METHOD), protocol)
    assert {**parts, 'name': METHOD} == plain


@pytest.mark.slow
def test_a_walk_with_exemplars_replays_them(data_root, tmp_path):
    cfg = tiny_config(data_root, 'dkd_decomposed_m', **{'method.memory.budget': 5})
    WalkRunner(cfg, tmp_path).run()
    steps = json.loads((tmp_path / 'journal.json').read_text())['steps']
    assert [step['replayed'] for step in steps] == [0, 5, 5]


@pytest.mark.slow
@pytest.mark.parametrize('method', [METHOD, 'dkd_decomposed_paper'])
def test_it_does_what_every_method_does(method, tmp_path):
    check_method(method, tmp_path)
