"""A walk's beginning is checked first, written later, and the same after a kill."""

import json
import shutil

import pytest

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights


@pytest.fixture(scope='module')
def source(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('source')
    WalkRunner(tiny_config(data_root), work_dir, steps='0').run()
    return work_dir


def refused(data_root, work_dir, message, **options):
    with pytest.raises(InputError, match=message):
        WalkRunner(tiny_config(data_root), work_dir, **options).prepare()
    assert not list(work_dir.glob('journal.json')) + list(work_dir.glob('step_*'))


@pytest.mark.parametrize('steps', ['1', '2', '0,2'])
def test_a_step_without_the_one_before_leaves_nothing_behind(data_root, tmp_path, steps):
    refused(data_root, tmp_path, 'which is not done', steps=steps)


def test_steps_may_follow_those_that_are_taken_over(data_root, tmp_path, source):
    refused(data_root, tmp_path, 'step 2 starts from step 1', start_from=str(source), steps='2')
    WalkRunner(tiny_config(data_root), tmp_path, start_from=str(source), steps='1').open()
    assert (tmp_path / 'step_00/checkpoint.pth').is_file()


@pytest.mark.parametrize(
    ('suffix', 'message'),
    [
        ('/nowhere', 'holds no walk'),
        (':1', 'step 1 of .* is not done'),
        (':7', r'steps 0\.\.2 only'),
    ],
)
def test_a_bad_source_leaves_nothing_behind(data_root, tmp_path, source, suffix, message):
    refused(data_root, tmp_path, message, start_from=f'{source}{suffix}')


def test_a_changed_source_leaves_nothing_behind(data_root, tmp_path, source):
    other = shutil.copytree(source, tmp_path / 'other')
    with (other / 'step_00/checkpoint.pth').open('ab') as file:
        file.write(b' ')
    refused(data_root, tmp_path / 'walk', r'checkpoint\.pth is not the file', start_from=str(other))


def test_a_kill_before_the_copy_does_not_make_step_0_be_trained(
    data_root, tmp_path, source, monkeypatch
):
    def killed(*arguments, **options):
        raise KeyboardInterrupt

    cfg = tiny_config(data_root, 'finetune')
    with monkeypatch.context() as patch:
        patch.setattr('shutil.copytree', killed)
        with pytest.raises(KeyboardInterrupt):
            WalkRunner(cfg, tmp_path, start_from=str(source)).open()
    journal = json.loads((tmp_path / 'journal.json').read_text())
    assert journal['start_from'] == str(source) and journal['steps'] == []
    # A journal that somebody else has written must not have other directories read.
    with pytest.raises(InputError, match=f'add --start-from {source} again'):
        WalkRunner(cfg, tmp_path, resume=True, steps='0').prepare()
    scheduler = WalkRunner(cfg, tmp_path, resume=True, steps='0', start_from=str(source)).open()
    assert scheduler.journal.step(0)['taken_from']['work_dir'] == str(source)
    assert_same_weights(source, tmp_path, 0)


def test_what_was_taken_over_needs_its_source_no_more(data_root, tmp_path, source):
    other = shutil.copytree(source, tmp_path / 'other')
    cfg = tiny_config(data_root)
    WalkRunner(cfg, tmp_path / 'walk', start_from=str(other), steps='0').open()
    shutil.rmtree(other)
    assert WalkRunner(cfg, tmp_path / 'walk', resume=True).open().journal.is_done(0)


def test_to_resume_what_is_not_there_begins_and_says_so(data_root, tmp_path, source, capsys):
    WalkRunner(tiny_config(data_root), tmp_path / 'new', resume=True).open()
    assert f'{tmp_path / "new"} holds no walk yet' in capsys.readouterr().out
    assert (tmp_path / 'new/journal.json').is_file()
    WalkRunner(tiny_config(data_root), tmp_path / 'new', resume=True).open()
    assert 'holds no walk' not in capsys.readouterr().out


def test_the_estimate_leaves_out_steps_that_are_not_walked(data_root, tmp_path, monkeypatch):
    from mmseg_cil.engine import walk_runner as module

    derive, found = module.training_config, []

    def spy(*arguments):
        cfg = derive(*arguments)
        found.extend(
            hook['iterations'] for hook in cfg.custom_hooks if hook['type'] == 'WalkProgressHook'
        )
        raise KeyboardInterrupt

    monkeypatch.setattr(module, 'training_config', spy)
    for i, steps in enumerate((None, '0-1', '0')):
        with pytest.raises(KeyboardInterrupt):
            WalkRunner(tiny_config(data_root), tmp_path / str(i), steps=steps).run()
    assert found == [[6, 4, 4], [6, 4, 0], [6, 0, 0]]
