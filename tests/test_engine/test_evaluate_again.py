"""Finished steps evaluated again: after a change, a loss of scores, or on demand."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mmseg_cil.engine import commands, evaluate
from mmseg_cil.engine.record.fingerprint import training_fingerprints
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.protocols import build_protocol
from mmseg_cil.testing.tiny import make_data, tiny_config, weights
from mmseg_cil.utils.atomic import write_json, write_text


def config(data_root, **changes):
    cfg = tiny_config(data_root, **changes)
    cfg.step_overrides = {0: dict(max_iters=2), 'later': dict(max_iters=2)}
    return cfg


def run(cfg, work_dir, **options):
    scheduler = WalkRunner(cfg, work_dir, **options).open()
    scheduler.run()
    return scheduler


class Arguments:
    """The command line of ``tools/test.py``."""

    def __init__(self, work_dir, **options):
        self.work_dir = str(work_dir)
        self.step = self.config = None
        self.dry_run, self.launcher, self.cfg_options = False, 'none', {}
        self.__dict__.update(options)


@pytest.fixture(scope='module')
def two_steps(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('two') / 'walk'
    cfg = config(data_root)
    run(cfg, work_dir, steps='0-1')
    write_text(work_dir / 'walk_config.py', cfg.pretty_text)
    return work_dir


@pytest.fixture
def work_dir(two_steps, tmp_path):
    return Path(shutil.copytree(two_steps, tmp_path / 'walk'))


def metrics(work_dir):
    return json.loads((work_dir / 'metrics.json').read_text())


def journal(work_dir):
    return json.loads((work_dir / 'journal.json').read_text())


BASE = {'protocol.policy': dict(old='base', background_in_means=False)}


@pytest.fixture
def evaluated(monkeypatch):
    """The steps that are evaluated from their checkpoints."""
    steps = []
    real = evaluate.evaluate_step

    def spy(walk, journal, step, launcher, keep=True):
        steps.append(step)
        return real(walk, journal, step, launcher, keep)

    for name in ('evaluate', 'walk_runner', 'commands'):
        monkeypatch.setattr(f'mmseg_cil.engine.{name}.evaluate_step', spy)
    return steps


def test_another_evaluation_evaluates_anew_and_trains_nothing(
    work_dir, data_root, evaluated, capsys
):
    before = weights(work_dir, 1)
    run(config(data_root, **BASE), work_dir, resume=True, steps='0-1')
    assert evaluated == [0, 1]
    assert 'step 0 was evaluated with other settings' in capsys.readouterr().out
    assert {
        (entry['settings']['old'], entry['settings']['background_in_means'])
        for entry in metrics(work_dir)['steps']
    } == {('base', False)}
    assert journal(work_dir)['protocol']['policy']['old'] == 'base'
    for key, value in weights(work_dir, 1).items():
        assert torch.equal(value, before[key])
    evaluated.clear()
    run(config(data_root, **BASE), work_dir, resume=True, steps='0-1')
    assert evaluated == []


def test_evaluation_in_half_precision_is_asked_for_as_in_mmengine(
    work_dir, data_root, evaluated, monkeypatch
):
    formats = []
    forward = torch.nn.Conv2d.forward

    def spy(self, inputs):
        result = forward(self, inputs)
        formats.append(result.dtype)
        return result

    monkeypatch.setattr(torch.nn.Conv2d, 'forward', spy)
    run(config(data_root, test_cfg=dict(fp16=True)), work_dir, resume=True, steps='0-1')
    # The sample predictions of the report stay in single precision.
    assert evaluated == [0, 1] and set(formats) == {torch.bfloat16, torch.float32}
    formats.clear()
    run(config(data_root), work_dir, resume=True, steps='0-1')
    assert evaluated == [0, 1, 0, 1] and set(formats) == {torch.float32}


def test_the_same_evaluation_is_left_alone(work_dir, data_root, evaluated):
    run(config(data_root), work_dir, resume=True, steps='0-1')
    assert evaluated == []


def test_lost_or_damaged_scores_come_back_on_resume(work_dir, data_root, evaluated, capsys):
    before = metrics(work_dir)
    (work_dir / 'step_00/metrics.json').unlink()
    (work_dir / 'step_01/metrics.json').write_text('{"step": 1')
    run(config(data_root), work_dir, resume=True, steps='0-1')
    assert evaluated == [0, 1] and metrics(work_dir) == before
    assert 'step_00/metrics.json is missing or damaged' in capsys.readouterr().out


def test_steps_taken_over_are_evaluated_as_this_walk_does(
    two_steps, data_root, tmp_path, evaluated
):
    run(config(data_root, **BASE), tmp_path / 'other', start_from=f'{two_steps}:1', steps='1')
    assert evaluated == [0, 1]
    assert {entry['settings']['old'] for entry in metrics(tmp_path / 'other')['steps']} == {'base'}
    assert {entry['settings']['old'] for entry in metrics(two_steps)['steps']} == {'previous'}


def test_the_tool_takes_a_changed_evaluation_for_all_steps_or_none(work_dir, evaluated, capsys):
    former = metrics(work_dir)
    with pytest.raises(InputError, match=r'mix two ways of evaluation.*step 0.*--step'):
        commands.test(Arguments(work_dir, step=1, cfg_options=BASE))
    commands.test(Arguments(work_dir, step=1, cfg_options=BASE, dry_run=True))
    assert metrics(work_dir) == former and evaluated == [1]
    commands.test(Arguments(work_dir, cfg_options=BASE))
    assert {entry['settings']['old'] for entry in metrics(work_dir)['steps']} == {'base'}
    commands.test(Arguments(work_dir))
    assert metrics(work_dir) == former


def test_the_tool_names_the_way_to_lost_scores(work_dir):
    before = metrics(work_dir)
    (work_dir / 'step_00/metrics.json').unlink()
    with pytest.raises(InputError, match=r'step_00/metrics.json is missing.*Leave out --step'):
        commands.test(Arguments(work_dir, step=1))
    commands.test(Arguments(work_dir))
    assert metrics(work_dir) == before


@pytest.mark.parametrize(
    ('changes', 'kind'),
    [
        ({'protocol.setting': 'disjoint'}, 'protocol'),
        ({'model.decode_head.kernel_size': 1}, 'model'),
    ],
)
def test_the_tool_refuses_another_walks_config(work_dir, changes, kind):
    with pytest.raises(InputError, match=rf'journal\.json.*{kind}: \w+ expected, \w+ found'):
        commands.test(Arguments(work_dir, cfg_options=changes))


def change(path):
    content = torch.load(path, weights_only=True)
    content['state_dict']['decode_head.conv_seg.bias'] += 1
    torch.save(content, path)


MESSAGE = (
    r'step_00/checkpoint\.pth is not the file .*journal\.json'
    r'.*expected: \w{64}, found: \w{64}'
)


def test_the_tool_refuses_weights_that_are_not_those_of_the_journal(work_dir):
    change(work_dir / 'step_00/checkpoint.pth')
    with pytest.raises(InputError, match=MESSAGE):
        commands.test(Arguments(work_dir))


def test_no_step_starts_from_weights_that_are_not_those_of_the_journal(work_dir, data_root):
    change(work_dir / 'step_01/checkpoint.pth')
    with pytest.raises(InputError, match=MESSAGE.replace('00', '01')):
        run(config(data_root), work_dir, resume=True)
    assert len(journal(work_dir)['steps']) == 2


def test_a_teacher_must_be_the_file_of_the_journal(data_root, tmp_path):
    # No picture shows blue: step 2 starts from step 1, but learns from step 0.
    root = make_data(tmp_path / 'data')
    (root / 'lists/train.txt').write_text('train_000\ntrain_001\ntrain_007\n')
    cfg = config(root, skip_empty_steps=True)
    scheduler = run(cfg, tmp_path / 'walk', steps='0-1')
    assert scheduler.journal.step(1)['trained'] is False
    change(tmp_path / 'walk/step_00/checkpoint.pth')
    with pytest.raises(InputError, match=MESSAGE):
        run(cfg, tmp_path / 'walk', resume=True)


def test_a_lost_checkpoint_is_named(work_dir, data_root):
    (work_dir / 'step_01/checkpoint.pth').unlink()
    with pytest.raises(InputError, match=r'step_01/checkpoint\.pth does not exist'):
        run(config(data_root), work_dir, resume=True)


def test_the_tool_needs_neither_training_images_nor_first_weights(data_root, tmp_path):
    root = Path(shutil.copytree(data_root, tmp_path / 'data'))
    cfg = config(root)
    run(cfg, tmp_path / 'walk', steps='0')
    # The index of the test masks goes with them.
    shutil.rmtree(root / '.mmseg_cil', ignore_errors=True)
    for path in [*root.glob('*/train_*.png'), root / 'lists/train.txt']:
        path.unlink()
    journal_path = tmp_path / 'walk/journal.json'
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='gone.pth')
    content = json.loads(journal_path.read_text())
    protocol = build_protocol(cfg.protocol, cfg.train_dataloader.dataset.metainfo.classes)
    content['fingerprints'] = {
        **training_fingerprints(cfg, protocol, content['images']['train'], 1),
        'evaluation': content['fingerprints']['evaluation'],
    }
    write_json(journal_path, content)
    write_text(tmp_path / 'walk/walk_config.py', cfg.pretty_text)
    before = metrics(tmp_path / 'walk')
    commands.test(Arguments(tmp_path / 'walk'))
    assert metrics(tmp_path / 'walk') == before


def test_a_journal_of_an_earlier_version_says_so(work_dir, data_root, tmp_path, evaluated):
    content = journal(work_dir)
    del content['fingerprints']['evaluation']
    for record in content['steps']:
        del record['evaluation']
    write_json(work_dir / 'journal.json', content)
    earlier = 'written by an earlier version'
    with pytest.raises(InputError, match=earlier):
        WalkRunner(config(data_root), work_dir, resume=True).prepare()
    with pytest.raises(InputError, match=earlier):
        commands.test(Arguments(work_dir))
    with pytest.raises(InputError, match=earlier):
        WalkRunner(config(data_root), tmp_path / 'other', start_from=str(work_dir)).prepare()
    run(config(data_root), work_dir, resume=True, accept_changes=True, steps='0')
    assert evaluated == [0, 1]
    commands.test(Arguments(work_dir, step=1))
