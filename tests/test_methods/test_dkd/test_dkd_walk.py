"""Walks with DKD: which group an iteration distils, resuming, and processes."""

import json
from pathlib import Path

import pytest
from mmengine.dist import get_rank

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.methods.dkd.loss import DenseKnowledgeDistillationLoss
from mmseg_cil.testing.processes import in_two_processes
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights, at, killed, logged


def recorded(setattr=setattr):
    """Record step and classes that the loss distils from now on, iteration by iteration."""
    drawn = []
    chosen = DenseKnowledgeDistillationLoss.chosen

    def record(self, *args):
        found = chosen(self, *args)
        drawn.append([self._step.index, [list(run) for run in found.segments]])
        return found

    setattr(DenseKnowledgeDistillationLoss, 'chosen', record)
    return drawn


@pytest.fixture(scope='module')
def unbroken(data_root, tmp_path_factory):
    """Folder of a walk, and what it drew."""
    folder = tmp_path_factory.mktemp('dkd')
    with pytest.MonkeyPatch.context() as patch:
        drawn = recorded(patch.setattr)
        WalkRunner(tiny_config(data_root, 'dkd_random'), folder).run()
    return folder, drawn


def losses(work_dir, step):
    return [line['distill.loss_dkd'] for line in logged(work_dir, step)]


def test_every_iteration_draws_a_group_of_the_pool(unbroken):
    folder, drawn = unbroken
    first, both = [[0, 1], [1, 3]], [[0, 1], [1, 3], [3, 4]]
    assert [group for step, group in drawn if step == 1] == [first] * 4
    later = [group for step, group in drawn if step == 2]
    assert len(later) == 4 and all(group in (first, both) for group in later)
    assert all(value > 0 for step in (1, 2) for value in losses(folder, step))


def test_a_resumed_walk_draws_what_the_unbroken_one_draws(
    unbroken, data_root, tmp_path, monkeypatch
):
    folder, everything = unbroken
    cfg = tiny_config(data_root, 'dkd_random')
    with killed(at(step=2, iteration=3)):
        WalkRunner(cfg, tmp_path, start_from=str(folder)).run()
    drawn = recorded(monkeypatch.setattr)
    WalkRunner(cfg, tmp_path, resume=True).run()
    assert drawn and drawn == everything[-len(drawn) :]
    assert_same_weights(folder, tmp_path, 2)


def walk_on_a_rank(data_root, start, folder):
    drawn = recorded()
    WalkRunner(
        tiny_config(Path(data_root), 'dkd_random'),
        f'{folder}/walk',
        start_from=str(start),
        launcher='pytorch',
    ).run()
    Path(folder, f'{get_rank()}.json').write_text(json.dumps(drawn))


@pytest.mark.slow
def test_two_ranks_draw_the_same_groups(unbroken, data_root, tmp_path):
    folder, drawn = unbroken
    in_two_processes(walk_on_a_rank, data_root, folder, tmp_path, log=tmp_path / 'log')
    for rank in range(2):
        assert json.loads((tmp_path / f'{rank}.json').read_text()) == drawn


def test_the_loss_works_in_place_of_another_methods(unbroken, data_root, tmp_path):
    folder, _ = unbroken
    cfg = tiny_config(
        data_root,
        'lwf',
        **{
            'method.distillers.0.loss': dict(
                _delete_=True,
                type='DenseKnowledgeDistillationLoss',
                loss_weight=1.0,
                temperature=2.0,
            )
        },
    )
    WalkRunner(cfg, tmp_path, start_from=str(folder), steps='1').run()
    assert losses(tmp_path, 1)[-1] > 0
