"""Walks with DKD: which group an iteration distils, resuming, and processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import tiny_config, weights

from mmseg_cil.engine.scheduler import TaskScheduler
from mmseg_cil.hooks import IterationSeedHook
from mmseg_cil.losses import DenseKnowledgeDistillationLoss

TWO = """
import json, sys
sys.path.insert(0, {folder!r})
import torch
import torch.distributed as dist
from mmseg_cil.engine.scheduler import TaskScheduler
from test_dkd_walk import recorded, tiny_config
rank, tmp = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group('gloo', init_method=f'file://{{tmp}}/group', rank=rank, world_size=2)
drawn = recorded()
TaskScheduler(tiny_config({data!r}, 'dkd_random'), f'{{tmp}}/walk', start_from={start!r},
              launcher='pytorch').run()
open(f'{{tmp}}/{{rank}}.json', 'w').write(json.dumps(drawn))
dist.destroy_process_group()
"""


def recorded(setattr=setattr):
    """What the loss distils from now on: step and classes, iteration by iteration."""
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
        TaskScheduler(tiny_config(data_root, 'dkd_random'), folder).run()
    return folder, drawn


def losses(work_dir, step):
    path = next((work_dir / f'step_{step:02d}').glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line['distill.loss_dkd'] for line in lines if 'loss' in line]


def test_every_iteration_draws_a_group_of_the_pool(unbroken):
    folder, drawn = unbroken
    first, both = [[0, 1], [1, 3]], [[0, 1], [1, 3], [3, 4]]
    assert [group for step, group in drawn if step == 1] == [first] * 4
    later = [group for step, group in drawn if step == 2]
    assert len(later) == 4 and all(group in (first, both) for group in later)
    assert all(value > 0 for step in (1, 2) for value in losses(folder, step))


def test_a_resumed_walk_draws_what_the_unbroken_one_draws(unbroken, data_root, tmp_path,
                                                          monkeypatch):
    before = IterationSeedHook.before_train_iter

    def kill(self, runner, *args, **kwargs):
        if self.step == 2 and runner.iter == 3:
            raise InterruptedError
        before(self, runner, *args, **kwargs)

    folder, everything = unbroken
    cfg = tiny_config(data_root, 'dkd_random')
    monkeypatch.setattr(IterationSeedHook, 'before_train_iter', kill)
    with pytest.raises(InterruptedError):
        TaskScheduler(cfg, tmp_path, start_from=str(folder)).run()
    monkeypatch.setattr(IterationSeedHook, 'before_train_iter', before)
    drawn = recorded(monkeypatch.setattr)
    TaskScheduler(cfg, tmp_path, resume=True).run()
    assert drawn and drawn == everything[-len(drawn):]
    for key, value in weights(folder, 2).items():
        assert torch.equal(value, weights(tmp_path, 2)[key]), key


def test_two_ranks_draw_the_same_groups(unbroken, data_root, tmp_path):
    folder, drawn = unbroken
    script = TWO.format(
        folder=str(Path(__file__).parent), data=str(data_root), start=str(folder))
    processes = [
        subprocess.Popen([sys.executable, '-c', script, str(rank), str(tmp_path)],
                         stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                         env={**os.environ, 'RANK': str(rank), 'WORLD_SIZE': '2',
                              'LOCAL_RANK': '0'}) for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors[-3000:]
    for rank in range(2):
        assert json.loads((tmp_path / f'{rank}.json').read_text()) == drawn


def test_the_loss_works_in_place_of_another_methods(unbroken, data_root, tmp_path):
    folder, _ = unbroken
    cfg = tiny_config(data_root, 'lwf', **{'method.distillers.0.loss': dict(
        _delete_=True, type='DenseKnowledgeDistillationLoss', loss_weight=1.0, temperature=2.0)})
    TaskScheduler(cfg, tmp_path, start_from=str(folder), steps='1').run()
    assert losses(tmp_path, 1)[-1] > 0
