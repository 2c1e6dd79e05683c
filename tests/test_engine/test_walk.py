"""Whole walks over the tiny dataset: what they leave behind and what it says."""

import json

import pytest

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import CLASSES, tiny_config, weights
from mmseg_cil.testing.walks import assert_same_weights, logged, seasons


def walk(cfg, work_dir, **options):
    scheduler = WalkRunner(cfg, work_dir, **options).open()
    scheduler.run()
    return scheduler


@pytest.fixture(scope='module')
def mib_dir(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('mib')
    walk(tiny_config(data_root), work_dir)
    return work_dir


def test_the_work_directory_is_laid_out_as_documented(mib_dir):
    for step in range(3):
        folder = mib_dir / f'step_{step:02d}'
        assert (folder / 'config.py').is_file() and (folder / 'checkpoint.pth').is_file()
        assert not (folder / 'resume.pth').exists()
    journal = json.loads((mib_dir / 'journal.json').read_text())
    assert [entry['status'] for entry in journal['steps']] == ['done'] * 3
    assert [entry['classes'] for entry in journal['steps']] == [3, 4, 5]
    assert [entry['iterations'] for entry in journal['steps']] == [6, 4, 4]
    assert journal['steps'][1]['started_from'].endswith('step_00/checkpoint.pth')


def test_metrics_cover_every_step_and_class(mib_dir):
    metrics = json.loads((mib_dir / 'metrics.json').read_text())
    assert [len(entry['IoU']) for entry in metrics['steps']] == [3, 4, 5]
    assert metrics['method'] == 'mib' and metrics['protocol'] == 'tiny'
    last = metrics['steps'][-1]
    assert last['seen'] == list(CLASSES)
    values = [value for value in last['IoU'].values() if value is not None]
    assert last['mIoU']['all'] == pytest.approx(sum(values) / len(values))
    assert (mib_dir / 'metrics.csv').read_text().count('\n') == 4


def test_each_step_starts_from_the_last(mib_dir):
    first, second = (weights(mib_dir, step) for step in (0, 1))
    assert second['decode_head.conv_seg.weight'].shape[0] == 4
    assert second['auxiliary_head.conv_seg.weight'].shape[0] == 4
    key = 'backbone.layer4.1.conv2.weight'
    moved = (first[key] - second[key]).norm() / first[key].norm()
    assert 0 < moved < 0.5


def test_the_shared_step_0_is_taken_over(mib_dir, data_root, tmp_path):
    cfg = tiny_config(data_root, 'finetune')
    scheduler = WalkRunner(cfg, tmp_path, start_from=str(mib_dir), steps='1').open()
    scheduler.run()
    record = scheduler.journal.step(0)
    assert record['taken_from']['work_dir'] == str(mib_dir)
    assert_same_weights(mib_dir, tmp_path, 0)
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert [entry['step'] for entry in metrics['steps']] == [0, 1]


def test_another_protocols_step_0_is_refused(mib_dir, data_root, tmp_path):
    cfg = tiny_config(data_root)
    cfg.protocol.steps = [['background', 'red'], ['green', 'blue'], ['grey']]
    with pytest.raises(InputError, match='another protocol'):
        WalkRunner(cfg, tmp_path, start_from=str(mib_dir)).prepare()
    assert not (tmp_path / 'step_00').exists()


def test_a_changed_method_is_refused_unless_accepted(data_root, tmp_path):
    WalkRunner(tiny_config(data_root), tmp_path, steps='0').run()
    other = tiny_config(data_root, 'finetune')
    with pytest.raises(InputError, match='already holds a walk'):
        WalkRunner(other, tmp_path).prepare()
    with pytest.raises(InputError, match=r'differs .* in: method'):
        WalkRunner(other, tmp_path, resume=True).prepare()
    WalkRunner(other, tmp_path, resume=True, accept_changes=True, steps='1').run()
    assert json.loads((tmp_path / 'metrics.json').read_text())['method'] == 'finetune'


def test_a_step_needs_the_one_before_it(data_root, tmp_path):
    with pytest.raises(InputError, match='starts from step 0, which is not done'):
        WalkRunner(tiny_config(data_root), tmp_path, steps='1').run()


def test_background_alone_is_recorded_but_neither_trained_nor_a_teacher(data_root, tmp_path):
    cfg = tiny_config(data_root)
    cfg.protocol.steps = [['background'], ['red', 'green'], ['blue', 'grey']]
    scheduler = walk(cfg, tmp_path)
    journal = json.loads((tmp_path / 'journal.json').read_text())
    # The first step that trains has the length (and rate) given for step 0.
    assert [entry['iterations'] for entry in journal['steps']] == [0, 6, 4]
    assert [entry['trained'] for entry in journal['steps']] == [False, True, True]
    assert scheduler._teacher(1) is None
    assert scheduler._teacher(2)['num_classes'] == 3
    first = json.loads((tmp_path / 'metrics.json').read_text())['steps'][0]
    assert first['seen'] == ['background'] and first['IoU']['background'] == 1.0


def test_a_domain_walk_keeps_its_classes(data_root, tmp_path):
    cfg = tiny_config(data_root)
    cfg.protocol = seasons(['early'], ['late', 'last'])
    walk(cfg, tmp_path)
    steps = json.loads((tmp_path / 'metrics.json').read_text())['steps']
    assert [len(entry['seen']) for entry in steps] == [5, 5]
    assert steps[1]['mIoU']['old'] is not None and len(steps[1]['groups']) == 2


def test_losses_are_those_of_the_method(mib_dir):
    lines = logged(mib_dir, 1)
    assert len(lines) == 4
    for line in lines:
        parts = [line['decode.loss_unce'], line['aux.loss_unce'], line['distill.loss_unkd']]
        assert line['loss'] == pytest.approx(sum(parts), rel=1e-5)
    assert not any('distill.loss_unkd' in line for line in logged(mib_dir, 0))
