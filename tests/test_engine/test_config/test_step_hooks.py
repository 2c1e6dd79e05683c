"""Default hooks that a config sets to None, as MMEngine lets it."""

import json

import pytest

from mmseg_cil.engine.config.step_hooks import notes_on_hooks
from mmseg_cil.engine.preflight import parts
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.testing.tiny import tiny_config

NAMES = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
    'visualization',
)


@pytest.mark.parametrize(
    ('hooks', 'said'),
    [
        (dict.fromkeys(NAMES), ['checkpoint', 'runtime_info', 'logger', 'param_scheduler']),
        (None, []),
    ],
)
def test_a_walk_goes_without_the_hooks_and_says_what_follows(
    data_root, tmp_path, monkeypatch, hooks, said
):
    cfg = tiny_config(data_root)
    cfg.default_hooks = hooks
    assert [note.split()[0] for note in notes_on_hooks(cfg)] == [
        f'default_hooks.{name}' for name in said
    ]
    printed = []
    monkeypatch.setattr(parts, 'print_log', lambda text, *args: printed.append(text))
    WalkRunner(cfg, tmp_path, steps='0').run()
    assert [line for line in printed if 'default_hooks' in line] == notes_on_hooks(cfg)
    assert json.loads((tmp_path / 'metrics.json').read_text())['steps'][0]['step'] == 0


def test_a_schedule_that_is_followed_by_nothing_is_said_only_where_there_is_one(data_root):
    cfg = tiny_config(data_root)
    cfg.default_hooks.param_scheduler = None
    assert len(notes_on_hooks(cfg)) == 1
    cfg.param_scheduler = None
    assert notes_on_hooks(cfg) == []
