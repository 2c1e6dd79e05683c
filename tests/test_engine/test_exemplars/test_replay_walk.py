"""Walks with an exemplar memory: what is kept, replayed, resumed and refused."""

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmseg_cil.contracts import StepHook
from mmseg_cil.contracts.check import overrides
from mmseg_cil.engine.exemplars import choose
from mmseg_cil.engine.exemplars.lists import exemplars_after, exemplars_before
from mmseg_cil.engine.runner import step_runner
from mmseg_cil.engine.step_configs import training_config
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.methods.mib.unbiased_cross_entropy import UnbiasedCrossEntropyLoss
from mmseg_cil.methods.plop import thresholds_hook as thresholds_hook
from mmseg_cil.registry import HOOKS
from mmseg_cil.testing.processes import in_two_processes
from mmseg_cil.testing.tiny import ROOT, tiny_config
from mmseg_cil.testing.walks import Killed, assert_same_weights, at, killed, logged, seasons

#: The official regions of the presets of PLOP's code want larger maps than those of these images.
OFFICIAL_REGIONS = (
    'plop_paper',
    'lgkd_paper',
    'plop_nest_paper',
    'plop_ewf_paper',
    'reminder_paper',
)
METHODS = sorted(
    path.stem
    for path in (ROOT / 'configs/_base_/methods').glob('*.py')
    if path.stem not in ('joint', *OFFICIAL_REGIONS)
)
#: Their parts replay in those of others too.
VARIANTS = (
    'caf',
    'dfd',
    'dfgr_dtid',
    'dft_star',
    'dkd',
    'dkd_decomposed',
    'dkd_decomposed_m',
    'dkd_decomposed_paper',
    'lgkd',
    'lgkd_mib',
    'lwf',
    'm2kd_pruned',
    'mib_nest_paper',
    'mib_ucd',
    'mib_ucd_paper',
    'mib_ewf_paper',
    'plop_ewf',
    'plop_nest',
    'plop_ucd',
    'rcil_ewf',
    'reminder',
    'sdr',
    'sdr_paper',
    'vdfd_ewf',
    'vdfd_plain',
    'dfgr',
    'dkd_random',
    'icarl_original',
    'ilt',
    'ilt_original',
    'm2kd',
    'star',
    'star_m',
    'star_paper',
    'vdfd_official',
    'vdfd_ssl',
    'vdfd_step_ce',
    'vdfd_unce',
)
EVERY = [f'train_{i:03d}' for i in range(16)]


def config(data_root, method='finetune', memory=None, **changes):
    cfg = tiny_config(data_root, method, **changes)
    cfg.step_overrides = {0: dict(max_iters=2), 'later': dict(max_iters=2, lr=0.001)}
    if memory is not None:
        cfg.method.memory = memory
    return cfg


def icarl(data_root):
    cfg = config(data_root, 'icarl', dict(budget=5, ratio=0.4))
    cfg.step_overrides = {0: dict(max_iters=4), 'later': dict(max_iters=4, lr=0.02)}
    return cfg


def domains(cfg):
    cfg.protocol = seasons(['early', 'late'], ['last'])
    return cfg


def list_of(work_dir, step):
    return json.loads((work_dir / f'step_{step:02d}' / 'exemplars.json').read_text())


def names_of(work_dir, step):
    return [image['name'] for image in list_of(work_dir, step)['images']]


def record(work_dir, step):
    return json.loads((work_dir / 'journal.json').read_text())['steps'][step]


def taken(cfg, work_dir, source, last):
    """A walk that has taken over steps 0..last and has trained nothing."""
    return WalkRunner(cfg, work_dir, start_from=f'{source}:{last}').open()


def chosen(cfg, work_dir, source, last=2):
    """The same, with the exemplars that its memory would have kept."""
    scheduler = taken(cfg, work_dir, source, last)
    exemplars_after(scheduler.walk, scheduler.journal, last)
    return scheduler


def train_step_1(scheduler):
    """Trains step 1, without evaluating it; returns the losses of its iterations."""
    walk, journal = scheduler.walk, scheduler.journal
    scheduler._run_sub_steps(0, 'after')
    scheduler._run_sub_steps(1, 'before')
    inputs = replace(scheduler._inputs(1), exemplars=exemplars_before(walk, journal, 1))
    cfg = training_config(walk, 1, inputs)
    with step_runner.step_runner(cfg, 'none') as runner:
        runner.train()
    return [line['loss'] for line in logged(walk.work_dir, 1)]


@pytest.fixture(scope='module')
def plain_dir(data_root, tmp_path_factory):
    """A walk without memory, from which others start."""
    work_dir = tmp_path_factory.mktemp('plain')
    WalkRunner(config(data_root), work_dir).run()
    return work_dir


@pytest.fixture(scope='module')
def icarl_dir(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('icarl')
    WalkRunner(icarl(data_root), work_dir).run()
    return work_dir


def test_a_fixed_budget_is_shared_by_more_and_more_classes(icarl_dir):
    groups = [list_of(icarl_dir, step)['groups'] for step in range(3)]
    assert groups[0] == {'red': 3, 'green': 2}
    assert list(groups[2]) == ['red', 'green', 'blue', 'grey']
    for step in range(3):
        assert len(names_of(icarl_dir, step)) == 5
    for former, later in itertools.pairwise(groups):
        assert all(later[group] <= count for group, count in former.items())
    # The order of a class is kept: its list becomes a beginning of the former one.
    ranks = [
        {
            (image['name'], group, rank)
            for image in list_of(icarl_dir, step)['images']
            for group, rank in image['kept_for'].items()
            if group in ('red', 'green')
        }
        for step in range(3)
    ]
    assert ranks[2] < ranks[0] and ranks[1] < ranks[0]


def test_the_journal_counts_images_and_exemplars(icarl_dir):
    assert [record(icarl_dir, step)['replayed'] for step in range(3)] == [0, 5, 5]
    assert [record(icarl_dir, step)['exemplars']['kept'] for step in range(3)] == [5] * 3
    assert [record(icarl_dir, step)['images'] for step in range(3)] == [12, 8, 6]


def test_a_list_holds_no_pixels(icarl_dir):
    assert (icarl_dir / 'step_02' / 'exemplars.json').stat().st_size < 2000


@pytest.mark.parametrize(
    'method',
    [pytest.param(name, marks=pytest.mark.slow if name in VARIANTS else ()) for name in METHODS],
)
def test_every_method_replays(method, plain_dir, data_root, tmp_path):
    cfg = config(data_root, method)
    # As on the command line.
    cfg.merge_from_dict({'method.memory.budget': 4, 'method.memory.ratio': 0.5})
    hooks = [HOOKS.get(settings['type']) for settings in cfg.method.get('custom_hooks', [])]
    if any(overrides(hook, StepHook.after_step) for hook in hooks):
        # It needs more of step 0 than the weights, which another method did not keep.
        WalkRunner(cfg, tmp_path, steps='0').run()
        scheduler = WalkRunner(cfg, tmp_path, resume=True).open()
    else:
        scheduler = taken(cfg, tmp_path, plain_dir, 0)
    losses = train_step_1(scheduler)
    assert len(names_of(tmp_path, 0)) == 4
    assert len(losses) == 2 and all(0 < loss < 1000 for loss in losses)


def test_mib_is_told_which_images_hide_nothing(plain_dir, data_root, tmp_path, monkeypatch):
    told = []
    before = UnbiasedCrossEntropyLoss.receive_hidden

    def keep(self, hidden):
        told.append(hidden)
        before(self, hidden)

    monkeypatch.setattr(UnbiasedCrossEntropyLoss, 'receive_hidden', keep)
    cfg = config(data_root, 'mib', dict(budget=4, ratio=0.5))
    cfg.step_overrides['later']['max_iters'] = 6
    train_step_1(taken(cfg, tmp_path, plain_dir, 0))
    rows = torch.cat([mask for mask in told if mask is not None]).int().tolist()
    assert [1, 0, 0, 0] in rows and [1, 1, 1, 0] in rows
    assert all(row in ([1, 0, 0, 0], [1, 1, 1, 0]) for row in rows)


def test_thresholds_are_those_of_the_steps_own_images(plain_dir, data_root, tmp_path, monkeypatch):
    seen = []
    compute = thresholds_hook.teacher_histograms

    def count(model, batches, **options):
        seen.append(sum(len(batch['data_samples']) for batch in batches))
        return compute(model, batches, **options)

    monkeypatch.setattr(thresholds_hook, 'teacher_histograms', count)
    scheduler = taken(config(data_root, 'plop', dict(budget=4)), tmp_path, plain_dir, 0)
    train_step_1(scheduler)
    # Pictures that show blue, class 3.
    own = {f'train_{i:03d}' for i in range(16) if i % 4 == 2 or i // 2 % 4 == 2}
    assert seen == [len(own - set(names_of(tmp_path, 0)))] and len(own) == 8


def test_a_killed_walk_resumes_with_its_memory(icarl_dir, data_root, tmp_path, monkeypatch):
    order = choose.herding_order
    cfg = icarl(data_root)

    def kill_choice(*args):
        raise Killed

    # First between the checkpoint of step 0 and its list, then within step 1.
    monkeypatch.setattr(choose, 'herding_order', kill_choice)
    with pytest.raises(Killed):
        WalkRunner(cfg, tmp_path).run()
    assert record(tmp_path, 0)['status'] == 'trained'
    monkeypatch.setattr(choose, 'herding_order', order)
    with killed(at(step=1, iteration=3)):
        WalkRunner(cfg, tmp_path, resume=True).run()
    assert (tmp_path / 'step_01' / 'resume.pth').is_file()
    WalkRunner(cfg, tmp_path, resume=True, steps='0-1').run()
    for step in range(2):
        assert list_of(tmp_path, step) == list_of(icarl_dir, step)
    assert_same_weights(icarl_dir, tmp_path, 0, 1)


def test_a_memory_chosen_after_the_fact_is_the_same(icarl_dir, data_root, tmp_path):
    """Steps taken over from a run without memory have the one they would have had."""
    without = Path(shutil.copytree(icarl_dir, tmp_path / 'without'))
    journal = json.loads((without / 'journal.json').read_text())
    for step in range(3):
        (without / f'step_{step:02d}/exemplars.json').unlink()
        del journal['steps'][step]['exemplars']
    (without / 'journal.json').write_text(json.dumps(journal))
    chosen(icarl(data_root), tmp_path / 'late', without)
    # A list that is gone is chosen anew.
    chosen(icarl(data_root), tmp_path / 'taken', icarl_dir)
    for step in range(3):
        assert list_of(tmp_path / 'late', step) == list_of(icarl_dir, step)
        assert list_of(tmp_path / 'taken', step) == list_of(icarl_dir, step)
    (tmp_path / 'taken/step_01/exemplars.json').unlink()
    (tmp_path / 'taken/step_02/exemplars.json').unlink()
    walk = WalkRunner(icarl(data_root), tmp_path / 'taken', resume=True).open()
    exemplars_after(walk.walk, walk.journal, 2)
    assert list_of(tmp_path / 'taken', 2) == list_of(icarl_dir, 2)


def test_steps_with_another_memory_get_the_one_of_this_walk(icarl_dir, data_root, tmp_path):
    cfg = icarl(data_root)
    cfg.method.memory.budget = 3
    chosen(cfg, tmp_path, icarl_dir)
    assert [len(names_of(tmp_path, step)) for step in range(3)] == [3, 3, 3]
    assert set(names_of(tmp_path, 0)) < set(names_of(icarl_dir, 0))
    # So do those of this walk where a change is accepted.
    cfg.method.memory.budget = 2
    with pytest.raises(InputError, match='method'):
        WalkRunner(cfg, tmp_path, resume=True).prepare()
    walk = WalkRunner(cfg, tmp_path, resume=True, accept_changes=True).open()
    exemplars_after(walk.walk, walk.journal, 0)
    assert len(names_of(tmp_path, 0)) == 2


@pytest.mark.parametrize(
    'damage, message',
    [
        (
            lambda text: text.replace('train_', 'other_'),
            r'exemplars\.json is not the file .*SHA-256',
        ),
        (lambda text: text[:100], 'missing or damaged'),
        (lambda text: text.replace('"format": 1', '"format": 2'), 'missing or damaged'),
    ],
)
def test_a_changed_list_is_refused_before_training(damage, message, icarl_dir, data_root, tmp_path):
    scheduler = taken(icarl(data_root), tmp_path, icarl_dir, 1)
    path = tmp_path / 'step_01/exemplars.json'
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=message):
        scheduler.run()
    assert not (tmp_path / 'step_02').exists()


def test_the_list_of_another_protocol_is_refused(icarl_dir, data_root, tmp_path):
    scheduler = taken(icarl(data_root), tmp_path, icarl_dir, 0)
    path = tmp_path / 'step_00/exemplars.json'
    content = {**json.loads(path.read_text()), 'protocol': 'another'}
    path.write_text(json.dumps(content))
    fields = {**scheduler.journal.step(0), 'exemplars': None, 'taken_from': None}
    scheduler.journal.update_step(0, **fields)
    with pytest.raises(InputError, match='another protocol'):
        exemplars_before(scheduler.walk, scheduler.journal, 1)


def test_an_exemplar_whose_image_vanished_is_named(icarl_dir, data_root, tmp_path):
    data = Path(shutil.copytree(data_root, tmp_path / 'data'))
    gone = names_of(icarl_dir, 1)[0]
    listed = data / 'lists/train.txt'
    listed.write_text(listed.read_text().replace(f'{gone}\n', ''))
    with pytest.raises(InputError, match='of that run had other training images'):
        taken(icarl(data), tmp_path / 'walk', icarl_dir, 1)
    # Who accepts other images is told which exemplar is not among them.
    scheduler = WalkRunner(
        icarl(data), tmp_path / 'walk', start_from=f'{icarl_dir}:1', accept_changes=True
    ).open()
    with pytest.raises(InputError, match=f"not among the training images, such as '{gone}'"):
        scheduler.run()
    assert not (tmp_path / 'walk/step_02/checkpoint.pth').exists()


@pytest.mark.parametrize(
    'memory, message',
    [
        (dict(budget=0), 'at least 1'),
        (dict(budget=-1), 'at least 1'),
        (dict(budget=3, selection='best'), 'selection must be one of'),
        (dict(herding=True), 'dict with a budget'),
    ],
)
def test_wrong_settings_are_refused_before_anything(memory, message, data_root, tmp_path):
    with pytest.raises(InputError, match=message):
        WalkRunner(config(data_root, 'mib', memory), tmp_path).prepare()
    assert not (tmp_path / 'journal.json').exists()


def test_epochs_count_the_steps_own_images(data_root, tmp_path):
    lengths = []
    for memory in (None, dict(budget=8, selection='random')):
        cfg = config(data_root, 'finetune', memory)
        cfg.step_overrides = {0: dict(max_iters=2), 'later': dict(max_epochs=2)}
        lengths.append(WalkRunner(cfg, tmp_path / str(len(lengths))).open().walk.iterations)
    assert lengths[0] == lengths[1] == (2, 4, 2)


def test_workers_do_not_change_the_choice(icarl_dir, data_root, tmp_path):
    cfg = icarl(data_root)
    cfg.train_dataloader.num_workers = 2
    cfg.method.memory.budget = 7
    chosen(cfg, tmp_path / 'two', icarl_dir, 1)
    cfg.train_dataloader.num_workers = 0
    chosen(cfg, tmp_path / 'none', icarl_dir, 1)
    for step in (0, 1):
        assert list_of(tmp_path / 'two', step) == list_of(tmp_path / 'none', step)


def choose_seven(data_root, source, work_dir):
    cfg = icarl(Path(data_root))
    cfg.method.memory.budget = 7
    chosen(cfg, Path(work_dir), source)


def test_two_processes_choose_what_one_does(icarl_dir, data_root, tmp_path):
    choose_seven(data_root, icarl_dir, tmp_path / 'one')
    in_two_processes(choose_seven, data_root, icarl_dir, tmp_path / 'two', log=tmp_path / 'log')
    for step in range(3):
        assert list_of(tmp_path / 'one', step) == list_of(tmp_path / 'two', step)
        assert len(names_of(tmp_path / 'two', step)) == 7


def test_a_domain_walk_keeps_by_domain(data_root, tmp_path):
    cfg = domains(config(data_root, 'icarl', dict(budget=2, per='class')))
    WalkRunner(cfg, tmp_path).run()
    assert list_of(tmp_path, 1)['groups'] == {'domains of step 0': 4, 'domains of step 1': 2}
    assert record(tmp_path, 1)['replayed'] == 4
    assert all(name < 'train_010' for name in names_of(tmp_path, 0))


def test_a_random_memory_is_a_sample_of_all_images_met(plain_dir, data_root, tmp_path):
    memory = dict(budget=6, selection='random', seed=5)
    chosen(config(data_root, 'finetune', memory), tmp_path, plain_dir)
    order = [EVERY[i] for i in choose.random_order(EVERY, 5, 'all')]
    assert names_of(tmp_path, 2) == order[:6]
    # An image is stored by the last step that met it.
    for image in list_of(tmp_path, 2)['images']:
        number = int(image['name'][-3:])
        shown = {1 + number % 4, 1 + number // 2 % 4}
        assert image['step'] == (2 if 4 in shown else 1 if 3 in shown else 0)


def test_a_balanced_memory_draws_for_every_class(plain_dir, data_root, tmp_path):
    memory = dict(budget=2, per='class', selection='class_balanced')
    chosen(config(data_root, 'finetune', memory), tmp_path, plain_dir)
    content = list_of(tmp_path, 2)
    assert content['groups'] == dict(red=2, green=2, blue=2, grey=2)
    for image in content['images']:
        number = int(image['name'][-3:])
        shown = {('red', 'green', 'blue', 'grey')[i] for i in (number % 4, number // 2 % 4)}
        assert set(image['kept_for']) <= shown


def shown_by(name):
    """The classes that a picture of the tiny data shows."""
    number = int(name[-3:])
    return {('red', 'green', 'blue', 'grey')[i] for i in (number % 4, number // 2 % 4)}


def test_a_memory_in_rounds_keeps_each_image_for_a_class_that_it_shows(
    plain_dir, data_root, tmp_path
):
    memory = dict(budget=6, selection='balanced', confidence=0.0)
    chosen(config(data_root, 'finetune', memory), tmp_path, plain_dir)
    for step, classes in enumerate((2, 3, 4)):
        content = list_of(tmp_path, step)
        assert len(content['groups']) == classes and sum(content['groups'].values()) == 6
        seen = ['red', 'green', 'blue', 'grey'][:classes]
        assert list(content['groups']) == seen
        for image in content['images']:
            (group,) = image['kept_for']
            # A prediction beside the labels may be wrong, but is an old class.
            assert group in shown_by(image['name']) or group in seen[:-1]
    steps = {image['step'] for image in list_of(tmp_path, 2)['images']}
    assert steps <= {0, 1, 2} and len(steps) > 1


def test_labels_that_hide_nothing_tell_the_old_classes(data_root, tmp_path):
    memory = dict(budget=6, selection='balanced')
    cfg = config(data_root, 'finetune', memory)
    cfg.protocol.setting = 'sequential'
    WalkRunner(cfg, tmp_path, steps='0-1').run()
    for step in (0, 1):
        for image in list_of(tmp_path, step)['images']:
            (group,) = image['kept_for']
            assert group in shown_by(image['name'])


def test_a_memory_in_rounds_of_domains_keeps_by_domain(data_root, tmp_path):
    cfg = domains(config(data_root, 'finetune', dict(budget=5, selection='balanced')))
    WalkRunner(cfg, tmp_path).run()
    groups = list_of(tmp_path, 1)['groups']
    assert sorted(groups.values()) == [2, 3]
    assert set(groups) == {'domains of step 0', 'domains of step 1'}


def choose_in_rounds(data_root, source, work_dir):
    memory = dict(budget=7, selection='balanced', confidence=0.5)
    chosen(config(Path(data_root), 'finetune', memory), Path(work_dir), source)


@pytest.mark.slow
def test_two_processes_choose_in_rounds_what_one_does(plain_dir, data_root, tmp_path):
    choose_in_rounds(data_root, plain_dir, tmp_path / 'one')
    in_two_processes(choose_in_rounds, data_root, plain_dir, tmp_path / 'two', log=tmp_path / 'log')
    for step in range(3):
        assert list_of(tmp_path / 'one', step) == list_of(tmp_path / 'two', step)


def test_a_step_of_the_background_alone_leaves_no_list(data_root, tmp_path):
    cfg = config(data_root, 'icarl', dict(budget=4))
    cfg.protocol.steps = [['background'], ['red', 'green'], ['blue', 'grey']]
    scheduler = WalkRunner(cfg, tmp_path, steps='0-1').open()
    scheduler.run()
    assert not (tmp_path / 'step_00/exemplars.json').exists()
    assert [record(tmp_path, step)['replayed'] for step in range(2)] == [0, 0]
    assert list(list_of(tmp_path, 1)['groups']) == ['red', 'green']
    assert exemplars_before(scheduler.walk, scheduler.journal, 1) is None
    assert exemplars_before(scheduler.walk, scheduler.journal, 2).endswith('step_01/exemplars.json')


@pytest.mark.slow
def test_replay_keeps_what_fine_tuning_forgets(data_root, tmp_path):
    def walk(memory, start=None):
        cfg = config(data_root, 'finetune', memory, randomness=dict(seed=0))
        cfg.model.backbone.update(strides=(1, 1, 1, 1), base_channels=8)
        cfg.model.decode_head.in_channels = 64
        del cfg.model['auxiliary_head']
        cfg.optim_wrapper = dict(
            type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01, weight_decay=1e-4)
        )
        cfg.step_overrides = {
            0: dict(lr=0.03, max_iters=100),
            'later': dict(lr=0.005, max_iters=40),
        }
        cfg.default_hooks.logger.interval = 100
        work_dir = tmp_path / ('plain' if memory is None else 'memory')
        WalkRunner(cfg, work_dir, start_from=start, steps='0-1').run()
        scores = json.loads((work_dir / 'metrics.json').read_text())['steps'][1]['IoU']
        return scores['red'] + scores['green']

    forgetful = walk(None)
    assert forgetful < 0.05
    assert walk(dict(budget=6), str(tmp_path / 'plain')) > forgetful + 0.15
