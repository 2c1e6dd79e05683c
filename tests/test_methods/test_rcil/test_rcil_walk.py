"""Walks with RCIL: branches that come and go, resuming, processes, both kinds of protocol."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mmseg.apis import init_model
from mmseg.models.segmentors import EncoderDecoder

from mmseg_cil.engine import evaluate
from mmseg_cil.engine.config.compose import read_piece
from mmseg_cil.engine.config.protocol_pieces import settled
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.runner import step_runner
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.hooks import IterationSeedHook
from mmseg_cil.methods.rcil.parallel_conv import ParallelConv
from mmseg_cil.models.network_change import CHANGE_NAME
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.processes import in_two_processes
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import (
    Killed,
    assert_same_weights,
    at,
    keep_own_networks,
    killed,
    logged,
    seasons,
)


def seconds(work_dir, step):
    return torch.load(work_dir / f'step_{step:02d}' / CHANGE_NAME, weights_only=True)


def assert_same_step(first, second, step):
    assert_same_weights(first, second, step)
    for key, value in seconds(first, step).items():
        assert torch.equal(value, seconds(second, step)[key]), (step, key)


@pytest.fixture(scope='module')
def rcil_dir(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('rcil')
    WalkRunner(tiny_config(data_root, 'rcil'), work_dir).run()
    return work_dir


def test_every_step_leaves_a_plain_checkpoint_and_its_second_branches(rcil_dir):
    names = set(weights(rcil_dir, 0))
    for step in range(3):
        assert set(weights(rcil_dir, step)) == names
        assert not any('first' in name or 'second' in name for name in names)
        kernels = [key for key in seconds(rcil_dir, step) if key.endswith('conv.weight')]
        assert len(kernels) == 16
        assert all(key.replace('.conv.weight', '.weight') in names for key in kernels)


def test_losses_are_those_of_the_method(rcil_dir):
    parts = ('decode.loss_unce', 'aux.loss_unce', 'distill.loss_unkd', 'distill.loss_cube')
    for line in logged(rcil_dir, 1):
        assert line['loss'] == pytest.approx(sum(line[part] for part in parts), rel=1e-5)
        assert line['distill.loss_cube'] > 0
    assert 'distill.loss_cube' not in logged(rcil_dir, 0)[0]


def test_what_is_evaluated_is_the_plain_network(data_root, tmp_path, monkeypatch):
    branches = {}
    evaluate, before = step_runner.evaluate, IterationSeedHook.before_train_iter

    def count(when, runner):
        branches[when] = sum(isinstance(module, ParallelConv) for module in runner.model.modules())

    def counted_iteration(self, runner, *args, **kwargs):
        count('training', runner)
        before(self, runner, *args, **kwargs)

    def counted_evaluation(runner, has_run):
        count('evaluation', runner)
        return evaluate(runner, has_run)

    monkeypatch.setattr(IterationSeedHook, 'before_train_iter', counted_iteration)
    monkeypatch.setattr(step_runner, 'evaluate', counted_evaluation)
    WalkRunner(tiny_config(data_root, 'rcil'), tmp_path, steps='0').run()
    assert branches == {'training': 16, 'evaluation': 0}


@pytest.mark.filterwarnings('ignore')
def test_mmsegmentations_network_is_the_checkpoints(rcil_dir):
    folder = rcil_dir / 'step_02'
    model = init_model(str(folder / 'config.py'), str(folder / 'checkpoint.pth'), device='cpu')
    assert type(model) is EncoderDecoder
    state, expected = model.state_dict(), weights(rcil_dir, 2)
    assert state.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in state.items())


def test_a_killed_step_resumes_bit_by_bit(rcil_dir, data_root, tmp_path):
    cfg = tiny_config(data_root, 'rcil')
    with killed(at(step=1, iteration=3)):
        WalkRunner(cfg, tmp_path, start_from=str(rcil_dir), steps='1').run()
    state = torch.load(tmp_path / 'step_01' / 'resume.pth', weights_only=False)['state_dict']
    for branch in ('first', 'second'):
        assert f'backbone.layer1.0.conv1.{branch}.conv.weight' in state
    WalkRunner(cfg, tmp_path, resume=True, steps='1').run()
    assert_same_step(rcil_dir, tmp_path, 1)


def test_a_step_killed_before_its_evaluation_is_evaluated_alike(
    rcil_dir, data_root, tmp_path, monkeypatch
):
    evaluate = step_runner.evaluate

    def kill(runner, has_run):
        raise Killed

    cfg = tiny_config(data_root, 'rcil')
    monkeypatch.setattr(step_runner, 'evaluate', kill)
    with pytest.raises(Killed):
        WalkRunner(cfg, tmp_path, start_from=str(rcil_dir), steps='1').run()
    monkeypatch.setattr(step_runner, 'evaluate', evaluate)
    WalkRunner(cfg, tmp_path, resume=True, steps='1').run()
    assert_same_step(rcil_dir, tmp_path, 1)
    metrics = [
        json.loads((folder / 'step_01' / 'metrics.json').read_text())
        for folder in (rcil_dir, tmp_path)
    ]
    assert metrics[0]['IoU'] == metrics[1]['IoU']


def test_a_step_of_another_method_is_a_beginning_too(data_root, tmp_path):
    base, work_dir = tmp_path / 'base', tmp_path / 'rcil'
    WalkRunner(tiny_config(data_root, 'finetune'), base, steps='0').run()
    assert not (base / 'step_00' / CHANGE_NAME).exists()
    WalkRunner(tiny_config(data_root, 'rcil'), work_dir, start_from=str(base), steps='1').run()
    assert seconds(work_dir, 1)


def test_no_branches_of_a_former_run_stay(rcil_dir, data_root, tmp_path):
    (tmp_path / 'step_00').mkdir()
    shutil.copy(rcil_dir / 'step_00' / CHANGE_NAME, tmp_path / 'step_00')
    WalkRunner(tiny_config(data_root, 'finetune'), tmp_path, steps='0').run()
    assert not (tmp_path / 'step_00' / CHANGE_NAME).exists()


@pytest.mark.slow
def test_a_step_without_images_hands_the_branches_on(data_root, tmp_path):
    cfg = tiny_config(data_root, 'rcil', skip_empty_steps=True)
    dataset = cfg.train_dataloader.dataset
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.metainfo = dict(
            classes=(*dataset.metainfo.classes[:5], 'unicorn'),
            palette=[*dataset.metainfo.palette[:5], [1, 2, 3]],
        )
    cfg.protocol.steps = [['background', 'red', 'green'], ['unicorn'], ['blue', 'grey']]
    WalkRunner(cfg, tmp_path).run()
    # Untrained, the network is that of the step before, but for the new class's row.
    before, after = weights(tmp_path, 0), weights(tmp_path, 1)
    assert all(
        torch.equal(value, after[key]) for key, value in before.items() if 'conv_seg' not in key
    )
    assert not (tmp_path / 'step_01' / CHANGE_NAME).exists()
    assert seconds(tmp_path, 2).keys() == seconds(tmp_path, 0).keys()


def test_a_domain_walk(data_root, tmp_path):
    cfg = tiny_config(data_root, 'rcil')
    cfg.protocol = seasons(['early'], ['late', 'last'])
    method = read_piece('method', 'rcil')['method']
    cfg.method = settled(method, 'cityscapes_domain_11-5')
    WalkRunner(cfg, tmp_path).run()
    assert all(line['distill.loss_cube'] > 0 for line in logged(tmp_path, 1))
    assert not any('unkd' in key for key in logged(tmp_path, 1)[0])
    assert len(weights(tmp_path, 1)['decode_head.conv_seg.bias']) == 5


def test_averaged_weights_are_merged(data_root, tmp_path):
    cfg = tiny_config(data_root, 'rcil')
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.3, update_buffers=True)]
    WalkRunner(cfg, tmp_path, steps='0-1').run()
    journal = Journal.load(tmp_path)
    walk = evaluate.open_walk(cfg, tmp_path, journal)
    for step in (0, 1):
        again = evaluate.evaluate_step(walk, journal, step, 'none', keep=False)
        metrics = json.loads((tmp_path / f'step_{step:02d}/metrics.json').read_text())
        assert again['IoU'] == metrics['IoU']


def test_a_network_that_cannot_branch_is_refused_before_training(data_root, tmp_path):
    cfg = tiny_config(data_root, 'rcil')
    cfg.model.backbone.frozen_stages = 4
    with pytest.raises(InputError, match='ParallelBranches'):
        WalkRunner(cfg, tmp_path).prepare()


def test_two_processes_train_what_one_trains(tmp_path):
    check_method('rcil', tmp_path, checks=['processes'])


def walk_on_a_rank(data_root, folder):
    keep_own_networks(Path(folder))
    WalkRunner(
        tiny_config(Path(data_root), 'rcil', **{'method.network_change.draws': 'process'}),
        f'{folder}/walk',
        launcher='pytorch',
        steps='0-1',
    ).run()


def test_two_processes_have_one_network_if_each_draws_its_own_branches(data_root, tmp_path):
    in_two_processes(walk_on_a_rank, data_root, tmp_path, log=tmp_path / 'log', timeout=300)
    for step in range(2):
        first, second = (torch.load(tmp_path / f'{step}_{rank}.pth') for rank in range(2))
        assert all(torch.equal(value, second[key]) for key, value in first.items())
        saved = weights(tmp_path / 'walk', step)
        assert all(torch.equal(value, first[key]) for key, value in saved.items())
