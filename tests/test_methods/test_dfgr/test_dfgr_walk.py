"""Walks with generated replay and with two teachers on the tiny data."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.hooks import EMAHook
from PIL import Image

from mmseg_cil.engine.record.fingerprint import file_hash
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.methods.dfgr.generated_replay import GeneratedReplay
from mmseg_cil.methods.dfgr.new_data_sub_step import NewDataSubStep
from mmseg_cil.testing.processes import in_two_processes
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import assert_same_weights, killed, logged, seasons


def config(data_root, method='dfgr_dtid', **changes):
    cfg = tiny_config(data_root, method)
    cfg.method.sub_steps[0].update(max_iters=4, batch_size=2, generator=dict(channels=8))
    cfg.merge_from_dict(changes)
    return cfg


@pytest.fixture(scope='module')
def step_0(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('step_0')
    WalkRunner(tiny_config(data_root, 'finetune'), work_dir, steps='0').run()
    return work_dir


def walk(cfg, work_dir, step_0, **options):
    WalkRunner(cfg, work_dir, start_from=str(step_0), steps='1', **options).run()


@pytest.fixture(scope='module')
def unbroken(data_root, step_0, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('dfgr')
    walk(config(data_root), work_dir, step_0)
    return work_dir


def test_the_sub_steps_leave_what_they_say(unbroken):
    record = Journal.load(unbroken).step(1)
    files = {name: sorted(sub_step['files']) for name, sub_step in record['sub_steps'].items()}
    assert files == {
        'generator': ['generator.pth', 'samples.png', 'summary.json'],
        'new_data': ['checkpoint.pth'],
    }
    folder = unbroken / 'step_01'
    assert Image.open(folder / 'generator/samples.png').size[0] > 500
    summary = json.loads((folder / 'generator/summary.json').read_text())
    # Three classes after step 0: background, red, green.
    assert 0 <= summary['follows'] <= 1 and len(summary['follows_by_class']) == 3
    lines = logged(unbroken, 1, 'generator')
    assert len(lines) == 4
    parts = ('layout', 'statistics', 'balance', 'confidence', 'smoothness')
    for line in lines:
        assert line['loss'] == pytest.approx(sum(line[f'loss_{part}'] for part in parts), rel=1e-4)
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


@pytest.mark.parametrize(
    'where',
    ['step_01/generator', 'step_01/new_data', pytest.param('step_01', marks=pytest.mark.slow)],
)
def test_a_kill_in_any_part_changes_nothing(where, data_root, step_0, unbroken, tmp_path):
    with killed(lambda _, runner: str(runner.work_dir).endswith(where) and runner.iter == 3):
        walk(config(data_root), tmp_path, step_0)
    assert (tmp_path / where / 'resume.pth').exists()
    WalkRunner(config(data_root), tmp_path, resume=True, steps='1').run()
    assert_same_weights(unbroken, tmp_path, 1)
    for name in ('generator/generator.pth', 'new_data/checkpoint.pth'):
        expected, found = (
            torch.load(folder / 'step_01' / name, weights_only=True)['state_dict']
            for folder in (unbroken, tmp_path)
        )
        assert all(torch.equal(value, found[key]) for key, value in expected.items())


@pytest.fixture
def replayed(monkeypatch):
    """Count the images of every batch, the generated images among them, and the cached images."""
    noted = []
    extend = GeneratedReplay.extend

    def note(self, inputs, samples):
        images, labelled, count = extend(self, inputs, samples)
        assert len(images) == len(labelled)
        noted.append((len(images), count, 0 if self._kept is None else len(self._kept)))
        return images, labelled, count

    monkeypatch.setattr(GeneratedReplay, 'extend', note)
    return noted


@pytest.mark.slow
# Half as many generated images as the four real ones, in each of four iterations.
@pytest.mark.parametrize(
    ('method', 'changes', 'images'),
    [
        ('dfgr', {'method.sub_steps.0.replay.cache': 3}, (6, 2, 3)),
        ('dfgr', {'protocol': seasons(['early'], ['late'], ['last'])}, (6, 2, 0)),
        (
            'dfgr_dtid',
            {
                'method.distillers.1.form': 'double',
                'method.sub_steps.1.init': 'pretrained',
                'method.sub_steps.1.max_iters': 2,
            },
            (6, 2, 0),
        ),
    ],
)
def test_the_options_walk(method, changes, images, data_root, step_0, tmp_path, replayed):
    cfg = config(data_root, method, **changes)
    if 'protocol' in changes:
        cfg.protocol = changes['protocol']
        WalkRunner(cfg, tmp_path, steps='0-1').run()
    else:
        walk(cfg, tmp_path, step_0)
    assert replayed == [images] * 4
    if 'method.distillers.1.form' in changes:
        assert all(
            'distill.variance_old' not in line and line['distill.loss_dual'] > 0
            for line in logged(tmp_path, 1)
        )


def test_any_method_can_replay_with_a_preprocessor_named_as_mmsegmentation_does(
    data_root, step_0, tmp_path, replayed
):
    cfg = tiny_config(data_root, 'lwf')
    # Its model files have it twice, and the Runner gives the outer one to any model.
    cfg.data_preprocessor = dict(cfg.model.data_preprocessor)
    cfg.method.sub_steps = [dict(type='GeneratorSubStep', max_iters=2, batch_size=2)]
    walk(cfg, tmp_path, step_0)
    assert replayed == [(6, 2, 0)] * 4


def test_retraining_a_pruned_snapshot_has_both_teachers_and_replay(
    data_root, step_0, tmp_path, replayed
):
    cfg = config(data_root)
    cfg.method.sub_steps.append(dict(type='PruneSnapshot', retrain=0.5))
    walk(cfg, tmp_path, step_0)
    assert replayed == [(6, 2, 0)] * (4 + 2)
    assert len(logged(tmp_path, 1, 'prune')) == 2
    assert all(
        {'distill.loss_dual', 'distill.loss_unkd'} <= set(line)
        for line in logged(tmp_path, 1, 'prune')
    )


@pytest.mark.slow
def test_a_second_teacher_may_be_short_and_averaged(data_root, step_0, tmp_path, monkeypatch):
    cfg = config(data_root, **{'method.sub_steps.1.max_iters': 2})
    # Made for six iterations: it takes two of the step's four, and one of two, which is too short.
    cfg.param_scheduler = [dict(type='LinearLR', start_factor=0.1, begin=0, end=3, by_epoch=False)]
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.1)]
    ends = {}
    finish = NewDataSubStep.finish

    def note(self, runner, folder):
        hook = next(candidate for candidate in runner.hooks if isinstance(candidate, EMAHook))
        ends.update(
            {
                kind: network.decode_head.conv_seg.bias.detach().clone()
                for kind, network in dict(last=runner.model, averaged=hook.ema_model.module).items()
            }
        )
        return finish(self, runner, folder)

    monkeypatch.setattr(NewDataSubStep, 'finish', note)
    walk(cfg, tmp_path, step_0)
    state = torch.load(tmp_path / 'step_01/new_data/checkpoint.pth', weights_only=True)
    kept = state['state_dict']['decode_head.conv_seg.bias']
    assert torch.equal(kept, ends['averaged']) and not torch.equal(kept, ends['last'])
    assert [line['lr'] for line in logged(tmp_path, 1, 'new_data')] == [0.05, 0.05]


def test_a_teacher_that_nothing_trains_is_missed_before_training(data_root, tmp_path):
    cfg = config(data_root, **{'method.sub_steps.1.name': 'fresh'})
    with pytest.raises(InputError, match=r"\['new_data'\], and there are \['fresh'\]"):
        WalkRunner(cfg, tmp_path / 'walk').prepare()


def walk_in_two(data_root, start, folder):
    """All sub-steps there are, in a process group."""
    cfg = config(Path(data_root))
    cfg.method.sub_steps.append(dict(type='PruneSnapshot', retrain=0.5))
    walk(cfg, Path(folder) / 'walk', start, launcher='pytorch')


@pytest.mark.slow
def test_two_processes_train_every_sub_step(data_root, step_0, unbroken, tmp_path):
    in_two_processes(walk_in_two, data_root, step_0, tmp_path, log=tmp_path / 'log')
    listed = Journal.load(tmp_path / 'walk').step(1)['sub_steps']
    assert sorted(listed) == ['generator', 'new_data', 'prune']
    for name, sub_step in listed.items():
        folder = tmp_path / 'walk/step_01' / name
        assert {file: file_hash(folder / file) for file in sub_step['files']} == sub_step['files']
    # One image on each process is the batch of two on one, for what counts over all of them.
    alone, together = (
        logged(work_dir, 1, 'generator') for work_dir in (unbroken, tmp_path / 'walk')
    )
    for part in ('statistics', 'balance'):
        assert together[0][f'loss_{part}'] == pytest.approx(alone[0][f'loss_{part}'], rel=1e-4)


def test_a_network_without_batch_norms_is_refused_before_training(data_root, tmp_path):
    norm = dict(type='GN', num_groups=2, requires_grad=True)
    cfg = config(data_root, 'dfgr')
    cfg.merge_from_dict(
        {
            'model.backbone.norm_cfg': dict(norm, _delete_=True),
            'model.decode_head.norm_cfg': dict(norm, _delete_=True),
            'model.auxiliary_head.norm_cfg': dict(norm, _delete_=True),
        }
    )
    with pytest.raises(InputError, match='running statistics of batch norms'):
        WalkRunner(cfg, tmp_path / 'walk').prepare()
    assert not (tmp_path / 'walk/journal.json').exists()


def test_two_teachers_of_a_walk_by_domain_are_refused(data_root, tmp_path):
    cfg = config(data_root)
    cfg.protocol = seasons(['early'], ['late', 'last'])
    with pytest.raises(InputError, match='domain'):
        WalkRunner(cfg, tmp_path / 'walk').prepare()
