"""Logs are MMEngine's to the last digit, though values are fetched late and together."""

import json

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from mmseg_cil.engine.runner import message_hub
from mmseg_cil.engine.runner.message_hub import DeferredMessageHub
from mmseg_cil.engine.runner.step_runner import StepRunner, clear_instances
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.hooks import IterationSeedHook
from mmseg_cil.testing.tiny import tiny_config

#: Values that differ between any two runs.
CLOCK = ('time', 'data_time', 'eta')


@pytest.fixture
def fetches(monkeypatch):
    """Collect the number of values of each fetch."""
    counts = []
    numbers = message_hub._numbers

    def count(scalars):
        if scalars:
            counts.append(len(scalars))
        return numbers(scalars)

    monkeypatch.setattr(message_hub, '_numbers', count)
    return counts


def histories(state):
    """Names in their order, values with their type, and counts."""
    found = []
    for key, history in state['log_scalars'].items():
        # A state of ours has tensors, one of MMEngine's has the histories themselves.
        values, counts = (
            (tensor.numpy() for tensor in history.values())
            if isinstance(history, dict)
            else history.data
        )
        found.append((key, values.dtype, values.tolist(), counts.dtype, counts.tolist()))
    return found


def log(hub):
    """Values of every kind, in two iterations and more."""
    generator = torch.Generator().manual_seed(0)
    for i in range(7):
        hub.update_scalar('train/lr', 0.1 / (i + 1))
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            value = torch.randn((), generator=generator, dtype=torch.float64).to(dtype)
            hub.update_scalar(f'train/{dtype}', value.requires_grad_())
        hub.update_scalar('train/whole', torch.tensor([2**60 + i]), count=3)
        hub.update_scalar('train/truth', torch.tensor(i % 2 == 0))
        hub.update_scalar('train/not_saved', torch.tensor(1.5), resumed=False)
        hub.update_scalar('train/either', torch.tensor(0.1) if i % 3 else i)
        hub.update_scalar('train/time', 0.25)
        if i == 4:
            hub.get_scalar('train/time')


def test_every_value_is_what_mmengine_keeps():
    ours, own = DeferredMessageHub('ours'), MessageHub('own')
    log(ours)
    log(own)
    found, expected = ours.state_dict(), own.state_dict()
    assert histories(found) == histories(expected)
    assert found['resumed_keys'] == expected['resumed_keys']
    assert {
        type(value) for history in found['log_scalars'].values() for value in history.values()
    } == {torch.Tensor}
    resumed, earlier = DeferredMessageHub('resumed'), DeferredMessageHub('earlier')
    resumed.load_state_dict(found)
    # As the state of a version that kept MMEngine's form.
    earlier.load_state_dict(expected)
    assert histories(earlier.state_dict()) == histories(expected)
    own.load_state_dict(expected)
    for hub in (resumed, own):
        hub.update_scalar('train/torch.float32', torch.tensor(0.3))
        hub.update_scalar('train/truth', torch.tensor(True))
    assert histories(resumed.state_dict()) == histories(own.state_dict())


def test_a_value_is_fetched_when_it_is_read_and_not_before(fetches):
    hub = DeferredMessageHub('hub')
    value = torch.tensor(1.0)
    for _ in range(3):
        hub.update_scalar('train/loss', value)
        value += 1  # what was logged stays
        hub.update_scalar('train/time', 0.5)
        assert hub.get_scalar('train/time').current() == 0.5
    assert fetches == []
    assert hub.get_scalar('train/loss').data[0].tolist() == [1, 2, 3]
    assert fetches == [3]
    hub.update_scalar('train/loss', value)
    assert hub.log_scalars['train/loss'].current() == 4
    assert hub.get_scalar('train/loss').mean() == 2.5
    assert fetches == [3, 1]
    with pytest.raises(KeyError):
        hub.get_scalar('train/none')


def test_what_nobody_reads_does_not_pile_up(fetches, monkeypatch):
    monkeypatch.setattr(message_hub, 'MOST_KEPT', 4)
    hub = DeferredMessageHub('hub')
    for i in range(10):
        hub.update_scalar('train/loss', torch.tensor(float(i)))
    assert fetches == [4, 4]
    assert hub.get_scalar('train/loss').data[0].tolist() == list(range(10))


def test_whoever_asks_for_the_current_hub_gets_the_runners():
    clear_instances()
    hub = DeferredMessageHub.get_instance('step')
    assert MessageHub.get_current_instance() is hub
    clear_instances()
    assert MessageHub.get_current_instance() is not hub
    clear_instances()


def config(data_root):
    """Six iterations, logged after 3 and 6 over a window of 4, saved after 4."""
    cfg = tiny_config(data_root)
    cfg.default_hooks.logger.interval = 3
    cfg.default_hooks.checkpoint.interval = 4
    cfg.log_processor.window_size = 4
    return cfg


@pytest.fixture
def saved(monkeypatch):
    """The message hubs in the states that are saved."""
    states = []
    save = Runner.save_checkpoint

    def keep(self, out_dir, filename, *args, **kwargs):
        save(self, out_dir, filename, *args, **kwargs)
        states.append(torch.load(f'{out_dir}/{filename}', weights_only=False)['message_hub'])

    monkeypatch.setattr(Runner, 'save_checkpoint', keep)
    return states


def without_clock(pairs):
    return [pair for pair in pairs if pair[0].removeprefix('train/') not in CLOCK]


def logged(work_dir):
    """The lines of training in ``scalars.json``, one list of names and values each."""
    lines = []
    for path in sorted(work_dir.glob('step_00/*/vis_data/scalars.json')):
        lines += [without_clock(json.loads(line).items()) for line in path.read_text().splitlines()]
    return [line for line in lines if any(name == 'loss' for name, _ in line)]


def test_a_walks_logs_are_those_of_mmengines_hub(data_root, tmp_path, saved, monkeypatch):
    WalkRunner(config(data_root), tmp_path / 'ours', steps='0').run()
    ours, saved[:] = list(saved), []
    monkeypatch.setattr(StepRunner, 'build_message_hub', Runner.build_message_hub)
    WalkRunner(config(data_root), tmp_path / 'own', steps='0').run()
    lines = logged(tmp_path / 'ours')
    assert [dict(line)['step'] for line in lines] == [3, 6]
    assert any(name == 'decode.acc_seg' for name, _ in lines[0])
    assert lines == logged(tmp_path / 'own')
    assert len(ours) == len(saved) == 1
    found, expected = (without_clock(histories(state)) for state in (ours[0], saved[0]))
    assert found == expected
    assert any(len(values) == 4 for _, _, values, *_ in found)
    assert list(ours[0]['runtime_info']) == list(saved[0]['runtime_info'])


class Killed(Exception):
    pass


def test_the_logs_of_a_resumed_walk_are_those_of_the_unbroken(data_root, tmp_path, monkeypatch):
    WalkRunner(config(data_root), tmp_path / 'unbroken', steps='0').run()
    before = IterationSeedHook.before_train_iter

    def kill(self, runner, *args, **kwargs):
        if runner.iter == 5:
            raise Killed
        before(self, runner, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(IterationSeedHook, 'before_train_iter', kill)
        with pytest.raises(Killed):
            WalkRunner(config(data_root), tmp_path / 'killed', steps='0').run()
    # The window of the line after iteration 6 begins with the third.
    WalkRunner(config(data_root), tmp_path / 'killed', steps='0', resume=True).run()
    assert logged(tmp_path / 'killed') == logged(tmp_path / 'unbroken')


def test_values_are_fetched_for_the_logger_and_a_save_alone(
    data_root, tmp_path, fetches, monkeypatch
):
    """No other hook asks for the content of a tensor after an iteration."""
    asked, item = [], torch.Tensor.item
    call_hook = StepRunner.call_hook

    def note(self):
        asked.append(self)
        return item(self)

    seen = []

    def call(self, name, **kwargs):
        before = len(fetches), len(asked)
        call_hook(self, name, **kwargs)
        if name == 'after_train_iter':
            seen.append((len(fetches) - before[0], len(asked) - before[1]))

    monkeypatch.setattr(torch.Tensor, 'item', note)
    monkeypatch.setattr(StepRunner, 'call_hook', call)
    WalkRunner(config(data_root), tmp_path, steps='0').run()
    assert seen == [(0, 0), (0, 0), (1, 0), (1, 0), (0, 0), (1, 0)]
