"""Walks with generated replay and with two teachers on the tiny data."""

import json

import pytest
import torch
from PIL import Image
from tiny import tiny_config, weights
from walks import assert_same_weights, killed, logged, seasons

from mmseg_cil.engine.journal import Journal
from mmseg_cil.engine.scheduler import TaskScheduler
from mmseg_cil.errors import InputError


def config(data_root, method='dfgr_dtid', **changes):
    cfg = tiny_config(data_root, method)
    cfg.method.sub_steps[0].update(max_iters=4, batch_size=2, generator=dict(channels=8))
    cfg.merge_from_dict(changes)
    return cfg


@pytest.fixture(scope='module')
def step_0(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('step_0')
    TaskScheduler(tiny_config(data_root, 'finetune'), work_dir, steps='0').run()
    return work_dir


def walk(cfg, work_dir, step_0, **options):
    TaskScheduler(cfg, work_dir, start_from=str(step_0), steps='1', **options).run()


@pytest.fixture(scope='module')
def unbroken(data_root, step_0, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('dfgr')
    walk(config(data_root), work_dir, step_0)
    return work_dir


def test_the_sub_steps_leave_what_they_say(unbroken):
    record = Journal.load(unbroken).step(1)
    files = {name: sorted(one['files']) for name, one in record['sub_steps'].items()}
    assert files == {'generator': ['generator.pth', 'samples.png', 'summary.json'],
                     'new_data': ['checkpoint.pth']}
    folder = unbroken / 'step_01'
    assert Image.open(folder / 'generator/samples.png').size[0] > 500
    summary = json.loads((folder / 'generator/summary.json').read_text())
    # Three classes after step 0: background, red, green.
    assert 0 <= summary['follows'] <= 1 and len(summary['follows_by_class']) == 3
    lines = logged(unbroken, 1, 'generator')
    assert len(lines) == 4
    parts = ('layout', 'statistics', 'balance', 'confidence', 'smoothness')
    for line in lines:
        assert line['loss'] == pytest.approx(sum(line[f'loss_{one}'] for one in parts), rel=1e-4)
        assert 0 <= line['follows'] <= 1
    state = torch.load(folder / 'new_data/checkpoint.pth', weights_only=True)['state_dict']
    # The background and blue.
    assert state['decode_head.conv_seg.weight'].shape[0] == 2
    assert state['auxiliary_head.conv_seg.weight'].shape[0] == 2


def test_the_step_learns_from_both_teachers_and_leaves_a_plain_network(unbroken):
    for line in logged(unbroken, 1):
        assert {'distill.loss_dual', 'distill.loss_unkd', 'distill.variance_old'} <= set(line)
    found = weights(unbroken, 1)
    assert not any(key.startswith(('distillers', 'replay', 'generator')) for key in found)
    assert found['decode_head.conv_seg.weight'].shape[0] == 4
    # The step's own losses are those of its own log, not those of its sub-steps.
    from mmseg_cil.visualization.walk_record import read_walk
    assert len(read_walk(unbroken).losses[1].values) == 4


@pytest.mark.parametrize('where', ['step_01/generator', 'step_01/new_data', 'step_01'])
def test_a_kill_in_any_part_changes_nothing(where, data_root, step_0, unbroken, tmp_path):
    with killed(lambda _, runner: str(runner.work_dir).endswith(where) and runner.iter == 3):
        walk(config(data_root), tmp_path, step_0)
    assert (tmp_path / where / 'resume.pth').exists()
    TaskScheduler(config(data_root), tmp_path, resume=True, steps='1').run()
    assert_same_weights(unbroken, tmp_path, 1)
    for name in ('generator/generator.pth', 'new_data/checkpoint.pth'):
        expected, found = (torch.load(one / 'step_01' / name, weights_only=True)['state_dict']
                           for one in (unbroken, tmp_path))
        assert all(torch.equal(value, found[key]) for key, value in expected.items())


@pytest.mark.parametrize(('method', 'changes'), [
    ('dfgr', {'method.sub_steps.0.replay.cache': 3}),
    ('dfgr_dtid', {'method.distillers.1.form': 'double', 'method.sub_steps.1.init': 'pretrained',
                   'method.sub_steps.1.max_iters': 2}),
])
def test_the_options_walk(method, changes, data_root, step_0, tmp_path):
    walk(config(data_root, method, **changes), tmp_path, step_0)
    assert Journal.load(tmp_path).is_done(1)


def test_any_method_can_replay(data_root, step_0, tmp_path):
    cfg = tiny_config(data_root, 'lwf')
    cfg.method.sub_steps = [dict(type='GeneratorSubStep', max_iters=2, batch_size=2)]
    walk(cfg, tmp_path, step_0)
    assert Journal.load(tmp_path).is_done(1)


def test_a_network_without_batch_norms_is_refused_before_training(data_root, tmp_path):
    norm = dict(type='GN', num_groups=2, requires_grad=True)
    cfg = config(data_root, 'dfgr')
    cfg.merge_from_dict({'model.backbone.norm_cfg': dict(norm, _delete_=True),
                         'model.decode_head.norm_cfg': dict(norm, _delete_=True),
                         'model.auxiliary_head.norm_cfg': dict(norm, _delete_=True)})
    with pytest.raises(InputError, match='running statistics of batch norms'):
        TaskScheduler(cfg, tmp_path / 'walk')
    assert not (tmp_path / 'walk/journal.json').exists()


def test_two_teachers_of_a_walk_by_domain_are_refused(data_root, tmp_path):
    cfg = config(data_root)
    cfg.protocol = seasons(['early'], ['late', 'last'])
    with pytest.raises(InputError, match='domain'):
        TaskScheduler(cfg, tmp_path / 'walk')
