"""Contents of a step's folder, whatever the user's config is called and begins with."""

import torch
from mmengine.config import Config
from yapf.yapflib import yapf_api

from mmseg_cil.engine import evaluate
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.testing.tiny import tiny_config, weights

KEY = 'backbone.layer4.1.conv2.weight'


def test_a_config_called_config_is_not_taken_for_the_steps_own(data_root, tmp_path):
    (tmp_path / 'config.py').write_text(tiny_config(data_root).pretty_text)
    cfg = Config.fromfile(str(tmp_path / 'config.py'))
    WalkRunner(cfg, tmp_path / 'walk', steps='0').run()
    folder = tmp_path / 'walk/step_00'
    plain = (folder / 'config.py').read_text()
    assert Config.fromfile(str(folder / 'config.py')).model.type == 'EncoderDecoder'
    # The Runner that evaluates has a config of its own too.
    journal = Journal.load(tmp_path / 'walk')
    walk = evaluate.open_walk(cfg, tmp_path / 'walk', journal)
    evaluate.evaluate_step(walk, journal, 0, 'none')
    assert [path.name for path in folder.glob('*.py')] == ['config.py']
    assert (folder / 'config.py').read_text() == plain
    # The config that it was given lies with its log.
    full = Config.fromfile(str(next(folder.glob('*/config.py'))))
    assert full.model.type == 'IncrementalEncoderDecoder'


def shifted(source, path):
    """Saves a step's weights, one of them far from where training would go."""
    state = weights(source, 0)
    state[KEY] = state[KEY] + 1
    torch.save(dict(state_dict=state), path)
    return state[KEY]


def test_load_from_is_where_step_0_begins_and_no_other(data_root, tmp_path):
    cfg = tiny_config(data_root)
    cfg.step_overrides = {0: dict(max_iters=1, lr=1e-3), 'later': dict(max_iters=1, lr=0.0)}
    WalkRunner(cfg, tmp_path / 'source', steps='0').run()
    given = shifted(tmp_path / 'source', tmp_path / 'given.pth')
    cfg.load_from = str(tmp_path / 'given.pth')
    WalkRunner(cfg, tmp_path / 'walk', steps='0-1').run()
    found = weights(tmp_path / 'walk', 0)[KEY]
    assert 0 < (found - given).abs().max() < 0.1
    assert torch.equal(weights(tmp_path / 'walk', 1)[KEY], found)


def test_load_from_reaches_a_step_0_that_does_not_train(data_root, tmp_path):
    cfg = tiny_config(data_root)
    cfg.protocol.steps = [['background'], ['red', 'green'], ['blue', 'grey']]
    WalkRunner(cfg, tmp_path / 'source', steps='0').run()
    given = shifted(tmp_path / 'source', tmp_path / 'given.pth')
    cfg.load_from = str(tmp_path / 'given.pth')
    WalkRunner(cfg, tmp_path / 'walk', steps='0').run()
    assert torch.equal(weights(tmp_path / 'walk', 0)[KEY], given)


def test_nothing_waits_for_yapf(data_root, tmp_path, monkeypatch):
    calls = []
    real = yapf_api.FormatCode
    monkeypatch.setattr(
        yapf_api, 'FormatCode', lambda *args, **options: calls.append(1) or real(*args, **options)
    )
    cfg = tiny_config(data_root, 'finetune', **{'default_hooks.checkpoint.interval': 1})
    WalkRunner(cfg, tmp_path / 'walk', steps='0').run()
    assert not calls
    folder = tmp_path / 'walk/step_00'
    # The config that a step leaves for people has lines that they can read.
    lines = (folder / 'config.py').read_text().splitlines()
    assert len(lines) > 50 and max(len(line) for line in lines if line[:1] != '#') <= 100
    logged = Config.fromfile(str(next(folder.glob('*/config.py'))))
    assert logged.train_cfg.max_iters == 6
    assert logged.model.decode_head.num_classes == 3
