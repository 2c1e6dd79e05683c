"""Walks with M2KD: all snapshots teach, resuming, and steps out of the ordinary."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.dist import get_rank

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.testing.processes import in_two_processes
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import (
    assert_same_weights,
    at,
    keep_own_networks,
    killed,
    logged,
    seasons,
)


def noted(setattr=setattr):
    """Record step and names of the snapshots that run from now on, iteration by iteration."""
    seen = []
    run = IncrementalEncoderDecoder._run_teachers

    def note(self, inputs):
        records = run(self, inputs)
        seen.append((self.step.index, *records.named))
        return records

    setattr(IncrementalEncoderDecoder, '_run_teachers', note)
    return seen


@pytest.fixture
def drawn(monkeypatch):
    return noted(monkeypatch.setattr)


@pytest.fixture(scope='module')
def m2kd_dir(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('m2kd')
    WalkRunner(tiny_config(data_root, 'm2kd'), work_dir).run()
    return work_dir


def test_losses_are_those_of_the_method(m2kd_dir):
    assert not any('distill' in key for key in logged(m2kd_dir, 0)[0])
    for step in (1, 2):
        for line in logged(m2kd_dir, step):
            parts = [
                line[key]
                for key in (
                    'decode.loss_unce',
                    'aux.loss_unce',
                    'distill.loss_mmd',
                    'distill.loss_ad',
                )
            ]
            assert line['loss'] == pytest.approx(sum(parts), rel=1e-5)
            assert line['distill.loss_mmd'] > 0 and line['distill.loss_ad'] > 0
    # A step leaves a plain network.
    assert all(
        key.split('.')[0] in ('backbone', 'decode_head', 'auxiliary_head')
        for key in weights(m2kd_dir, 2)
    )
    assert 'teachers' not in (m2kd_dir / 'step_02/config.py').read_text()


def test_every_earlier_step_teaches(m2kd_dir, data_root, tmp_path, drawn):
    WalkRunner(tiny_config(data_root, 'm2kd'), tmp_path, start_from=str(m2kd_dir)).run()
    assert set(drawn) == {(1, 'step_00'), (2, 'step_00', 'step_01')}


def test_a_killed_step_draws_what_the_unbroken_one_draws(m2kd_dir, data_root, tmp_path, drawn):
    cfg = tiny_config(
        data_root, 'm2kd', **{'method.teacher_draw': 1, 'step_overrides.later.max_iters': 8}
    )
    WalkRunner(cfg, tmp_path / 'whole', start_from=str(m2kd_dir)).run()
    expected = [draw for draw in drawn if draw[0] == 2]
    assert {draw[1:] for draw in expected} == {('step_00',), ('step_01',)}
    with killed(at(step=2, iteration=5)):
        WalkRunner(cfg, tmp_path / 'killed', start_from=str(m2kd_dir)).run()
    state = torch.load(tmp_path / 'killed/step_02/resume.pth', weights_only=False)
    assert all(
        key.split('.')[0] in ('backbone', 'decode_head', 'auxiliary_head')
        for key in state['state_dict']
    )
    drawn.clear()
    WalkRunner(cfg, tmp_path / 'killed', resume=True).run()
    # It went on from iteration 4.
    assert drawn == expected[4:]
    assert_same_weights(tmp_path / 'whole', tmp_path / 'killed', 2)


def walk_that_draws(data_root, start, work_dir, launcher='none'):
    """Step 2, in which every iteration draws one of two snapshots."""
    cfg = tiny_config(data_root, 'm2kd', **{'method.teacher_draw': 1})
    WalkRunner(cfg, work_dir, launcher, start_from=f'{start}:1', steps='2').run()


def walk_on_a_rank(data_root, start, folder):
    folder = Path(folder)
    keep_own_networks(folder)
    seen = noted()
    walk_that_draws(Path(data_root), start, folder / 'walk', 'pytorch')
    (folder / f'{get_rank()}.json').write_text(json.dumps(seen))


@pytest.mark.slow
def test_two_processes_draw_what_one_draws_and_train_alike(m2kd_dir, data_root, tmp_path, drawn):
    walk_that_draws(data_root, m2kd_dir, tmp_path / 'alone')
    assert len(drawn) == 4 and {draw[1:] for draw in drawn} == {('step_00',), ('step_01',)}
    in_two_processes(walk_on_a_rank, data_root, m2kd_dir, tmp_path, log=tmp_path / 'log')
    for rank in range(2):
        found = json.loads((tmp_path / f'{rank}.json').read_text())
        assert [tuple(draw) for draw in found] == drawn
    first, second = (torch.load(tmp_path / f'2_{rank}.pth') for rank in range(2))
    assert first.keys() == second.keys()
    for key, value in first.items():
        # Each process has the statistics of its own batches.
        if 'running' not in key:
            assert torch.equal(value, second[key]), key


@pytest.mark.slow
def test_a_domain_walk_learns_all_classes_from_every_snapshot(data_root, tmp_path, drawn):
    cfg = tiny_config(data_root, 'm2kd')
    cfg.protocol = seasons(['early'], ['late'], ['last'])
    WalkRunner(cfg, tmp_path).run()
    assert (2, 'step_00', 'step_01') in drawn
    assert all(line['distill.loss_mmd'] > 0 for line in logged(tmp_path, 2))


@pytest.mark.slow
def test_a_step_that_did_not_train_is_no_teacher(data_root, tmp_path, drawn):
    cfg = tiny_config(data_root, 'm2kd')
    cfg.protocol.steps = [['background'], ['red', 'green'], ['blue', 'grey']]
    WalkRunner(cfg, tmp_path).run()
    assert set(drawn) == {(1,), (2, 'step_01')}
    assert not any('distill' in key for key in logged(tmp_path, 1)[0])


@pytest.mark.slow
def test_it_learns_beside_exemplars_and_other_parts(m2kd_dir, data_root, tmp_path):
    cfg = tiny_config(data_root, 'm2kd', **{'method.memory': dict(budget=4)})
    mib = tiny_config(data_root, 'mib').method
    cfg.method.distillers = [*cfg.method.distillers, *mib.distillers]
    WalkRunner(cfg, tmp_path, start_from=str(m2kd_dir), steps='1').run()
    line = logged(tmp_path, 1)[-1]
    parts = [
        line[key]
        for key in (
            'decode.loss_unce',
            'aux.loss_unce',
            'distill.loss_mmd',
            'distill.loss_ad',
            'distill.loss_unkd',
        )
    ]
    assert line['loss'] == pytest.approx(sum(parts), rel=1e-5)
    journal = json.loads((tmp_path / 'journal.json').read_text())
    assert journal['steps'][1]['replayed'] == 4


def test_wrong_input_is_refused(data_root, tmp_path):
    with pytest.raises(InputError, match="teachers must be 'all'"):
        WalkRunner(
            tiny_config(data_root, 'm2kd', **{'method.teachers': 'some'}), tmp_path
        ).prepare()
    with pytest.raises(InputError, match='teacher_draw must be a positive number'):
        WalkRunner(tiny_config(data_root, 'm2kd', **{'method.teacher_draw': 0}), tmp_path).prepare()
