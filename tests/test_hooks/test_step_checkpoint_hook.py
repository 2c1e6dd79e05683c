"""When a state is saved, and whose buffers are in it; two real processes: test_resuming.py."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn
from torch.optim import SGD

from mmseg_cil.hooks import step_checkpoint_hook as module
from mmseg_cil.hooks.step_checkpoint_hook import (
    BUFFERS_KEY,
    IDENTITY_KEY,
    StepCheckpointHook,
    iterations_per_update,
    rank_buffers,
)


def optimizer(counts=1):
    return OptimWrapper(SGD(nn.Linear(1, 1).parameters(), lr=0.1), accumulative_counts=counts)


class Run:
    """A run whose iterations take as long as they are told to, on one of several processes."""

    def __init__(self, monkeypatch, processes=1, start=0, counts=1):
        self.saved, self.metas, self.broadcasts = [], [], []
        self.iter, self.work_dir, self.model = start, 'folder', nn.BatchNorm1d(2)
        self.now, self.hooks, self.optim_wrapper = 0.0, [], optimizer(counts)
        monkeypatch.setattr(module.time, 'monotonic', lambda: self.now)
        monkeypatch.setattr(module, 'get_world_size', lambda: processes)
        monkeypatch.setattr(module, 'broadcast', lambda value: self.broadcasts.append(int(value)))

    def train(self, hook, seconds):
        self.max_iters = self.iter + len(seconds)
        hook.before_train(self)
        for duration in seconds:
            self.now += duration
            hook.after_train_iter(self, 0)
            self.iter += 1
        return self

    def save_checkpoint(self, out_dir, name, meta, **options):
        self.saved.append(self.iter + 1)
        self.metas.append(meta)


def test_saves_come_by_iterations_but_not_after_the_last(monkeypatch):
    run = Run(monkeypatch, start=30).train(StepCheckpointHook(interval=3), [1.0] * 9)
    assert run.saved == [33, 36]


@pytest.mark.parametrize(('interval', 'saved'), [(1, [4, 8]), (3, [4, 8]), (4, [4, 8]), (6, [8])])
def test_a_save_waits_for_the_update_that_gathered_gradients_make(monkeypatch, interval, saved):
    run = Run(monkeypatch, counts=4).train(StepCheckpointHook(interval), [1.0] * 11)
    assert run.saved == saved


@pytest.mark.parametrize('processes', [1, 2])
def test_a_save_by_the_clock_waits_for_the_update_too(monkeypatch, processes):
    run = Run(monkeypatch, processes, counts=4).train(StepCheckpointHook(1000, 1.0), [7.0] * 30)
    # Due after 9 iterations, and after 9 more from the save.
    assert run.saved == [12, 24]


def test_several_optimizers_have_a_common_iteration_to_save_at():
    assert iterations_per_update(optimizer(6)) == 6
    both = OptimWrapperDict(network=optimizer(4), graph=optimizer(6))
    assert iterations_per_update(both) == 12


@pytest.mark.parametrize('processes', [1, 2])
def test_saves_come_by_the_clock_too(monkeypatch, processes):
    run = Run(monkeypatch, processes).train(StepCheckpointHook(1000, 1.0), [7.0] * 30)
    # Nine iterations of 7 s are the first to pass the minute.
    assert run.saved == [9, 18, 27]


def test_several_processes_agree_seldom_on_the_clock(monkeypatch):
    run = Run(monkeypatch, processes=2).train(StepCheckpointHook(10**6, 10.0), [0.1] * 20000)
    assert len(run.saved) == 3 and run.saved[0] == pytest.approx(6000, abs=2)
    assert len(run.broadcasts) < 20


def test_a_slow_first_iteration_delays_no_save(monkeypatch):
    run = Run(monkeypatch, processes=2).train(StepCheckpointHook(10**6, 1.0), [50.0, *[1.0] * 99])
    assert run.saved[0] == 11


def test_the_main_process_decides_by_its_clock(monkeypatch):
    said = iter([4, 0, 10**6])
    run = Run(monkeypatch, processes=2)
    monkeypatch.setattr(module, 'broadcast', lambda value: value.fill_(next(said)))
    run.train(StepCheckpointHook(10**6, max_minutes=10**6), [1.0] * 20)
    # Told at 1 to ask again after 4, and at 5 to save.
    assert run.saved == [5]


def test_the_state_says_what_it_is_of(monkeypatch):
    hook = StepCheckpointHook(1, identity=dict(step=2, model='ab'))
    run = Run(monkeypatch).train(hook, [1.0] * 2)
    assert run.metas == [{IDENTITY_KEY: {'step': 2, 'model': 'ab'}, BUFFERS_KEY: [{}]}]


def on_rank(monkeypatch, rank, first):
    """Makes this process the given one of two; the first holds ``first``."""

    def receive(values):
        values[0] = first

    monkeypatch.setattr(module, 'get_rank', lambda: rank)
    monkeypatch.setattr(module, 'get_world_size', lambda: 2)
    monkeypatch.setattr(module, 'broadcast_object_list', receive)
    monkeypatch.setattr(module, 'all_gather_object', lambda own: [{}, own])


def test_only_buffers_that_differ_are_kept(monkeypatch):
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2))
    model.register_buffer('fixed', torch.arange(3))
    model.register_buffer('unsaved', torch.ones(1), persistent=False)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    model[1].running_mean += 1
    on_rank(monkeypatch, 1, state)
    found = rank_buffers(model)[1]
    assert list(found) == ['1.running_mean'] and found['1.running_mean'].tolist() == [1, 1]


@pytest.mark.parametrize(('rank', 'expected'), [(0, 0.0), (1, 5.0)])
def test_every_process_gets_its_own_buffers_back(monkeypatch, rank, expected):
    on_rank(monkeypatch, rank, None)
    average = EMAHook()
    average.ema_model = nn.BatchNorm1d(1)
    runner = SimpleNamespace(model=nn.Identity(), hooks=[average])
    own = {'model.mean': torch.tensor(5.0), 'average_0.running_mean': torch.tensor([5.0])}
    checkpoint = dict(
        meta={BUFFERS_KEY: [{}, own]},
        state_dict={'mean': torch.tensor(0.0), 'weight': torch.tensor(1.0)},
    )
    StepCheckpointHook().after_load_checkpoint(runner, checkpoint)
    assert checkpoint['state_dict'] == {'mean': expected, 'weight': 1.0}
    assert average.ema_model.running_mean.item() == expected


def test_another_number_of_processes_goes_on_with_the_first_ones_and_says_so():
    said = []
    runner = SimpleNamespace(logger=SimpleNamespace(warning=said.append))
    checkpoint = dict(meta={BUFFERS_KEY: [{}, {'mean': 5.0}]}, state_dict={'mean': 0.0})
    StepCheckpointHook().after_load_checkpoint(runner, checkpoint)
    assert checkpoint['state_dict'] == {'mean': 0.0}
    assert len(said) == 1 and 'saved by 2 processes, this job has 1' in said[0]
    # Nothing is lost where all were equal, and other checkpoints are left alone.
    for meta in ({BUFFERS_KEY: [{}, {}]}, {}, None):
        StepCheckpointHook().after_load_checkpoint(runner, dict(meta=meta, state_dict={}))
    assert len(said) == 1


def test_functions_in_the_state_of_a_schedule_are_left_out():
    checkpoint = {'param_schedulers': [{'last_step': 3, 'anneal_func': print}, {'by_epoch': False}]}
    StepCheckpointHook().before_save_checkpoint(None, checkpoint)
    assert checkpoint == {'param_schedulers': [{'last_step': 3}, {'by_epoch': False}]}
    several = {'param_schedulers': {'a': [{'f': len, 'x': 1}]}}
    StepCheckpointHook().before_save_checkpoint(None, several)
    assert several == {'param_schedulers': {'a': [{'x': 1}]}}
    StepCheckpointHook().before_save_checkpoint(None, {})


def test_a_state_that_could_not_be_read_is_told_when_it_is_saved(monkeypatch, tmp_path):
    run, told = Run(monkeypatch), []
    run.work_dir, run.logger = str(tmp_path), SimpleNamespace(warning=told.append)
    content = {'mine': Run}
    run.save_checkpoint = lambda *args, **options: torch.save(content, tmp_path / 'resume.pth')
    run.train(StepCheckpointHook(interval=2), [1] * 9)
    assert len(told) == 1 and 'holds the type or function' in told[0] and '.Run' in told[0]
    content['mine'] = [1.0, 'text']
    run.train(StepCheckpointHook(interval=2), [1] * 9)
    assert len(told) == 1
