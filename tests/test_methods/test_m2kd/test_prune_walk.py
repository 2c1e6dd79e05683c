"""Walks whose snapshots are pruned: one file for all, resuming, and what teaches afterwards."""

import json
from pathlib import Path

import pytest
import torch

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.hooks import IterationSeedHook
from mmseg_cil.methods.m2kd import prune_sub_step
from mmseg_cil.methods.m2kd.packed_snapshots import PackedSnapshots, same_bits
from mmseg_cil.methods.m2kd.prune_sub_step import said_of
from mmseg_cil.methods.m2kd.pruning_mask_hook import PruningMaskHook
from mmseg_cil.methods.m2kd.weight_owners import prunable_names
from mmseg_cil.models.teacher import load_packed_state
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import assert_same_weights, killed

PRUNE = 'method.sub_steps.0'


def pruned_config(data_root, **changes):
    changes = {f'{PRUNE}.retrain': 0.5, **changes}
    return tiny_config(data_root, 'm2kd_pruned', **changes)


def packed(work_dir, step):
    return PackedSnapshots.load(work_dir / f'step_{step:02d}/prune/snapshots.pth')


def record(work_dir, step):
    return json.loads((work_dir / 'journal.json').read_text())['steps'][step]


@pytest.fixture(scope='module')
def walked(data_root, tmp_path_factory):
    """A walk, the teachers of its steps, and what it said of its snapshots."""
    work_dir = tmp_path_factory.mktemp('pruned')
    teachers, said = [], []
    make = WalkRunner._teachers
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            WalkRunner,
            '_teachers',
            lambda self, step: teachers.append((step, make(self, step))) or teachers[-1][1],
        )
        patch.setattr(prune_sub_step, 'print_log', lambda text, logger: said.append(text))
        WalkRunner(pruned_config(data_root), work_dir).run()
    return work_dir, dict(teachers), said


@pytest.fixture
def pruned_dir(walked):
    return walked[:2]


def test_the_last_file_has_every_snapshot(pruned_dir):
    work_dir, _ = pruned_dir
    files = [packed(work_dir, step) for step in range(3)]
    assert [file.steps for file in files] == [(0,), (0, 1), (0, 1, 2)]
    for step in range(3):
        own = files[step].rebuild(step)
        for later in files[step:]:
            assert all(same_bits(value, own[name]) for name, value in later.rebuild(step).items())
        assert own.keys() == weights(work_dir, step).keys()
        assert own['decode_head.conv_seg.weight'].shape[0] == 3 + step
    for name in prunable_names(weights(work_dir, 0)):
        count = own[name].numel()
        left = count
        for place in range(1, 4):
            claimed = int((files[2].owners[name] == place).sum())
            assert claimed == round(0.5 * left)
            left -= claimed
        assert int((files[0].rebuild(0)[name] == 0).sum()) >= count - round(0.5 * count)


def test_the_mask_follows_from_the_checkpoint_and_retraining_moves_the_rest(pruned_dir):
    work_dir, _ = pruned_dir
    before, after = weights(work_dir, 0), packed(work_dir, 0).rebuild(0)
    name = 'decode_head.convs.0.conv.weight'
    kept = packed(work_dir, 0).owners[name] == 1
    assert before[name][kept].abs().min() >= before[name][~kept].abs().max()
    assert (before[name][kept] != after[name][kept]).any()
    assert (after[name][~kept] == 0).all() and (before[name] != 0).all()


def test_pruned_snapshots_teach_and_the_network_stays_whole(pruned_dir):
    work_dir, teachers = pruned_dir
    path = str(work_dir / 'step_01/prune/snapshots.pth')
    assert teachers[2] == {
        'step_00': dict(packed=path, snapshot=0, num_classes=3),
        'step_01': dict(packed=path, snapshot=1, num_classes=4),
    }
    assert torch.equal(
        load_packed_state(path, 0, 3)['decode_head.conv_seg.bias'],
        packed(work_dir, 0).rebuild(0)['decode_head.conv_seg.bias'],
    )


def test_the_journal_and_the_metrics_say_what_a_snapshot_costs_and_scores(pruned_dir):
    work_dir, _ = pruned_dir
    metrics = json.loads((work_dir / 'metrics.json').read_text())['steps']
    total = 0
    for step in range(3):
        summary = record(work_dir, step)['sub_steps']['prune']['summary']
        assert summary['bytes_dense'] == sum(
            value.nbytes for value in weights(work_dir, step).values()
        )
        total = summary['bytes_all_snapshots']
        assert summary['kept_share'] == pytest.approx(1 - 0.5 ** (step + 1), abs=0.01)
        assert 0 <= summary['snapshot_mIoU'] <= 1
        assert metrics[step]['sub_steps'] == dict(prune=summary)
    size = (work_dir / 'step_02/prune/snapshots.pth').stat().st_size
    # The container takes some hundred bytes for each of about 3 x 150 tensors.
    assert total < size < total + 3 * 150 * 500
    first = record(work_dir, 0)['sub_steps']['prune']['summary']
    assert first['bytes_snapshot'] < 0.6 * first['bytes_dense']


@pytest.mark.slow
def test_without_pruning_or_retraining_a_snapshot_is_its_checkpoint(data_root, tmp_path):
    cfg = pruned_config(data_root, **{f'{PRUNE}.ratio': 0.0, f'{PRUNE}.retrain': 0.0})
    WalkRunner(cfg, tmp_path, steps='0-1').run()
    for step in range(2):
        rebuilt = packed(tmp_path, 1).rebuild(step)
        assert all(
            same_bits(rebuilt[name], value) for name, value in weights(tmp_path, step).items()
        )
        score = json.loads((tmp_path / 'metrics.json').read_text())['steps'][step]
        assert score['sub_steps']['prune']['snapshot_mIoU'] == score['mIoU']['all']


def test_without_a_ratio_the_checkpoints_teach(data_root, tmp_path):
    cfg = pruned_config(data_root, **{f'{PRUNE}.ratio': None})
    scheduler = WalkRunner(cfg, tmp_path, steps='0').open()
    scheduler.run()
    assert scheduler._teachers(1)['step_00']['checkpoint'].endswith('step_00/checkpoint.pth')
    assert 'sub_steps' not in record(tmp_path, 0)


@pytest.mark.slow
def test_frozen_snapshots_keep_their_weights(pruned_dir, data_root, tmp_path):
    cfg = pruned_config(data_root, **{f'{PRUNE}.earlier': 'frozen'})
    WalkRunner(cfg, tmp_path, start_from=str(pruned_dir[0]), steps='1').run()
    snapshots = packed(tmp_path, 1)
    first, second = snapshots.rebuild(0), snapshots.rebuild(1)
    for name, owner in snapshots.owners.items():
        assert torch.equal(first[name][owner == 1], second[name][owner == 1])
        assert 'values' not in snapshots.entries[1][name]
    assert snapshots.bytes_of(1).stored < snapshots.bytes_of(0).stored


@pytest.mark.parametrize('when', [pytest.param('step', marks=pytest.mark.slow), 'retraining'])
def test_a_killed_walk_goes_on_where_it_was(pruned_dir, data_root, tmp_path, when):
    work_dir, _ = pruned_dir
    cfg = pruned_config(data_root)

    def reached(hook, runner):
        prunes = any(isinstance(other, PruningMaskHook) for other in runner.hooks)
        # The first of the 2 iterations of retraining was saved.
        return (
            hook.step == 1
            and prunes == (when == 'retraining')
            and runner.iter == (1 if prunes else 3)
        )

    cfg.default_hooks.checkpoint.interval = 1
    with killed(reached):
        WalkRunner(cfg, tmp_path, start_from=str(work_dir), steps='1').run()
    folder = tmp_path / 'step_01' / ('prune' if when == 'retraining' else '')
    assert (folder / 'resume.pth').exists()
    trained = tmp_path / 'step_01/checkpoint.pth'
    stamp = trained.stat().st_mtime_ns if when == 'retraining' else None
    WalkRunner(cfg, tmp_path, resume=True, steps='1').run()
    assert stamp in (None, trained.stat().st_mtime_ns)
    assert_same_weights(work_dir, tmp_path, 1)
    ours, theirs = packed(tmp_path, 1), packed(work_dir, 1)
    for step in (0, 1):
        rebuilt = theirs.rebuild(step)
        assert all(same_bits(value, rebuilt[name]) for name, value in ours.rebuild(step).items())
    assert not (folder / 'resume.pth').exists()


@pytest.mark.slow
def test_a_step_of_another_method_is_pruned_when_it_is_taken_over(data_root, tmp_path):
    WalkRunner(tiny_config(data_root, 'finetune'), tmp_path / 'plain', steps='0').run()
    WalkRunner(
        pruned_config(data_root), tmp_path / 'pruned', start_from=str(tmp_path / 'plain'), steps='1'
    ).run()
    assert packed(tmp_path / 'pruned', 1).steps == (0, 1)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'ratio': 1.0}, 'ratio must be in'),
        ({'ratio': -0.1}, 'ratio must be in'),
        ({'retrain': -1.0}, 'retrain'),
        ({'lr_factor': 0.0}, 'lr_factor'),
        ({'earlier': 'kept'}, "'trained' or 'frozen'"),
    ],
)
def test_wrong_input_is_refused(data_root, tmp_path, change, message):
    changes = {f'{PRUNE}.{key}': value for key, value in change.items()}
    with pytest.raises(InputError, match=message):
        WalkRunner(pruned_config(data_root, **changes), tmp_path).prepare()


def test_a_changed_file_is_refused(data_root, pruned_dir, tmp_path):
    cfg = pruned_config(data_root)
    WalkRunner(cfg, tmp_path, start_from=str(pruned_dir[0]), steps='0').run()
    path = tmp_path / 'step_00/prune/snapshots.pth'
    path.write_bytes(path.read_bytes()[:-1] + b'?')
    with pytest.raises(InputError, match=r'snapshots\.pth has the SHA-256'):
        WalkRunner(cfg, tmp_path, resume=True, steps='1').run()


def test_the_console_sets_a_snapshot_against_its_network(walked):
    work_dir, _, said = walked
    metrics = json.loads((work_dir / 'metrics.json').read_text())['steps']
    assert said == [
        said_of(step, entry['sub_steps']['prune'], entry['mIoU']['all'])
        for step, entry in enumerate(metrics)
    ]
    summary = metrics[1]['sub_steps']['prune']
    assert said_of(1, {**summary, 'snapshot_mIoU': 0.25}, 0.375).endswith(
        'mIoU 25.0 (the network: 37.5)'
    )
    assert said_of(1, summary, None).endswith('(the network: undefined)')


@pytest.mark.slow
def test_retraining_replays_what_its_step_replays(data_root, pruned_dir, tmp_path, monkeypatch):
    pictures = {}
    before = IterationSeedHook.before_train_iter

    def note(hook, runner, *args, **kwargs):
        place = Path(runner.work_dir).relative_to(tmp_path).as_posix()
        pictures[place] = len(runner.train_dataloader.dataset)
        before(hook, runner, *args, **kwargs)

    monkeypatch.setattr(IterationSeedHook, 'before_train_iter', note)
    cfg = pruned_config(data_root, **{'method.memory': dict(budget=4)})
    WalkRunner(cfg, tmp_path, start_from=str(pruned_dir[0]), steps='1').run()
    assert record(tmp_path, 1)['replayed'] == 4
    # The snapshot of step 0 is made again: that which was taken over knew no memory.
    assert pictures['step_00/prune'] == record(tmp_path, 0)['images']
    assert pictures['step_01/prune'] == pictures['step_01'] > record(tmp_path, 1)['images']


@pytest.mark.slow
def test_another_evaluation_scores_snapshots_anew_and_trains_nothing(data_root, tmp_path):
    changes = {f'{PRUNE}.ratio': 0.0, f'{PRUNE}.retrain': 0.0}
    WalkRunner(pruned_config(data_root, **changes), tmp_path, steps='0').run()

    def scores():
        entry = json.loads((tmp_path / 'metrics.json').read_text())['steps'][0]
        return entry['sub_steps']['prune']['snapshot_mIoU'], entry['mIoU']['all']

    before, files = scores(), record(tmp_path, 0)['sub_steps']['prune']['files']
    changes['protocol.policy'] = dict(background_in_means=False)
    WalkRunner(pruned_config(data_root, **changes), tmp_path, resume=True, steps='0').run()
    # An unpruned snapshot scores as its network does, in whatever way it is counted.
    assert before[0] == before[1] and scores()[0] == scores()[1] != before[1]
    assert record(tmp_path, 0)['sub_steps']['prune']['files'] == files


def test_another_methods_snapshots_are_not_taken_over(data_root, pruned_dir, tmp_path):
    cfg = tiny_config(data_root, 'finetune')
    WalkRunner(cfg, tmp_path, start_from=str(pruned_dir[0]), steps='0').run()
    assert 'sub_steps' not in json.loads((tmp_path / 'metrics.json').read_text())['steps'][0]
