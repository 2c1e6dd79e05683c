"""Walks with STAR: what a step keeps and the next one draws, and all that every method does."""

import json
import math
from types import SimpleNamespace

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
from mmseg_cil.methods.star.hook import COUNTS_NAME, StarStatisticsHook
from mmseg_cil.methods.star.statistics import FILE_NAME, ClassStatistics
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.processes import in_two_processes
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import logged, seasons

METHOD = 'star'


def config(data_root, method=METHOD, **changes):
    cfg = tiny_config(data_root, method, **changes)
    cfg.step_overrides = {0: dict(max_iters=8, lr=0.1), 'later': dict(max_iters=2, lr=0.002)}
    return cfg


@pytest.fixture(scope='module')
def walked(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('star') / 'walk'
    cfg = config(data_root)
    # So few iterations must predict some foreground.
    cfg.method.loss_decode.pos_weight = 30.0
    WalkRunner(cfg, work_dir, steps='0-1').run()
    return work_dir


def test_a_walk_has_all_terms_and_nothing_is_infinite(walked):
    named = [
        {name for name in logged(walked, step)[-1] if name.startswith(('decode.loss', 'distill'))}
        for step in (0, 1)
    ]
    assert named[0] == {'decode.loss_mbce'}
    assert named[1] == named[0] | {'distill.loss_pkd', 'distill.loss_cont'}
    lines = [*logged(walked, 0), *logged(walked, 1)]
    assert all(math.isfinite(line['loss']) for line in lines)
    assert logged(walked, 1)[-1]['distill.loss_cont'] > 0
    for step in (0, 1):
        state = weights(walked, step)
        for name in ('decode_head', 'auxiliary_head'):
            assert not state[f'{name}.conv_seg.weight'][0].any()
            assert not state[f'{name}.conv_seg.bias'][0].any()


def test_a_step_keeps_the_statistics_of_its_own_classes(walked):
    kept = [ClassStatistics.load(walked / f'step_0{step}' / FILE_NAME)[0] for step in (0, 1)]
    assert [len(part.counts) for part in kept] == [2, 1]
    for part in kept:
        assert (part.counts > 0).all() and part.background > 0
        torch.testing.assert_close(part.prototypes.norm(dim=1), torch.ones(len(part.counts)))
        assert (part.norm_mean > 0).all() and (part.norm_std > 0).all()
    counts = json.loads((walked / 'step_01' / COUNTS_NAME).read_text())['cells']
    assert kept[0].predicted is None and kept[1].predicted.tolist() == counts
    # The cells of the step's eight crops without a new label.
    assert 0 < sum(counts) < 8 * 3 * 3 and len(counts) == 3


@pytest.mark.filterwarnings('ignore')
def test_mmsegmentation_scores_the_plain_checkpoint_as_the_walk(walked, tmp_path):
    folder = walked / 'step_01'
    ours = json.loads((walked / 'metrics.json').read_text())['steps'][1]
    assert any(value > 0 for name, value in ours['IoU'].items() if name != 'background')
    cfg = Config.fromfile(folder / 'config.py')
    cfg.update(work_dir=str(tmp_path), load_from=str(folder / 'checkpoint.pth'))
    cfg.test_dataloader.num_workers = 0
    clear_instances()
    theirs = Runner.from_cfg(cfg).test()
    clear_instances()
    assert theirs['mIoU'] == pytest.approx(100 * ours['mIoU']['all'], abs=0.006)
    assert theirs['aAcc'] == pytest.approx(100 * ours['overall_accuracy'], abs=0.006)


def taken_over(data_root, source, work_dir):
    WalkRunner(config(data_root, 'star_paper'), work_dir, start_from=f'{source}:0', steps='0').run()


@pytest.mark.slow
def test_two_processes_keep_what_one_keeps(walked, data_root, tmp_path):
    taken_over(data_root, walked, tmp_path / 'one')
    in_two_processes(taken_over, data_root, walked, tmp_path / 'two', log=tmp_path / 'log')
    alone, both = (
        ClassStatistics.load(tmp_path / name / 'step_00' / FILE_NAME)[0] for name in ('one', 'two')
    )
    for name, value in vars(alone).items():
        torch.testing.assert_close(getattr(both, name), value, rtol=1e-6, atol=1e-6)
    assert alone.counts.equal(both.counts)


def test_walks_without_a_row_to_spare_are_refused_before_training(data_root, tmp_path):
    cfg = tiny_config(data_root, METHOD)
    cfg.protocol.background = 'none'
    with pytest.raises(InputError, match='no background: take --method mib'):
        WalkRunner(cfg, tmp_path / 'none').prepare()
    cfg = tiny_config(data_root, METHOD)
    cfg.protocol = seasons(['early', 'late'], ['last'])
    with pytest.raises(InputError, match='a walk by domain brings none'):
        WalkRunner(cfg, tmp_path / 'domains').prepare()


def test_without_its_hook_it_is_refused(data_root, tmp_path):
    cfg = tiny_config(data_root, METHOD)
    cfg.method.custom_hooks = []
    with pytest.raises(InputError, match='works with a StarStatisticsHook only'):
        WalkRunner(cfg, tmp_path).prepare()


def test_a_rehearsed_walk_begins_with_stand_ins(data_root, tmp_path):
    WalkRunner(tiny_config(data_root, METHOD, rehearsal=True), tmp_path).prepare()


@pytest.mark.parametrize(
    ('setting', 'protocol', 'subtracts'),
    [
        (None, 'overlapped', True),
        (None, 'disjoint', False),
        (None, 'sequential', True),
        ('overlapped', 'disjoint', True),
        ('disjoint', 'overlapped', False),
    ],
)
def test_the_setting_is_that_of_the_protocol_unless_it_is_given(setting, protocol, subtracts):
    runner = SimpleNamespace(cfg=Config(dict(protocol=dict(setting=protocol))))
    assert StarStatisticsHook(setting=setting)._subtracts(runner) is subtracts


@pytest.mark.parametrize(
    ('protocol', 'weight'), [('voc_15-1', 4.0), ('ade20k_100-10', 30.0), ('cityscapes_14-1', 4.0)]
)
@pytest.mark.parametrize(
    ('method', 'form', 'void'),
    [(METHOD, 'fixed', 'ignored'), (f'{METHOD}_paper', 'official', 'background')],
)
def test_the_paper_form_takes_the_official_choices(method, form, void, protocol, weight):
    parts = method_of(read_piece('method', method), protocol)
    loss = MODELS.build(parts['loss_decode'])
    (distiller,) = (MODELS.build(part) for part in parts['distillers'])
    assert (loss.pos_weight, loss.first_pos_weight) == (weight, weight)
    assert loss.form == distiller.form == parts['custom_hooks'][0].get('form', 'fixed') == form
    assert loss.void == void
    assert (distiller.feature_weight, distiller.contrast_weight) == (5.0, 0.05)
    assert parts['custom_hooks'][1] == dict(type='RowRateHook', factor=10.0)


def test_exemplars_are_those_of_the_official_scripts():
    parts = method_of(read_piece('method', 'star_m'), 'voc_15-1')
    memory = MemorySettings.from_config(parts.pop('memory'))
    assert (memory.budget, memory.selection, memory.confidence) == (50, 'balanced', 0.9)
    assert memory.ratio is None
    assert {**parts, 'name': METHOD} == method_of(read_piece('method', METHOD), 'voc_15-1')


@pytest.mark.slow
def test_a_walk_with_exemplars_replays_them(data_root, tmp_path):
    WalkRunner(config(data_root, 'star_m', **{'method.memory.budget': 5}), tmp_path).run()
    steps = json.loads((tmp_path / 'journal.json').read_text())['steps']
    assert [step['replayed'] for step in steps] == [0, 5, 5]
    # Exemplars are in none of the passes: the statistics are of the step's own images.
    assert (tmp_path / 'step_02' / COUNTS_NAME).is_file()


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('method', [METHOD, 'star_paper'])
def test_it_does_what_every_method_does(method, tmp_path):
    check_method(method, tmp_path)
