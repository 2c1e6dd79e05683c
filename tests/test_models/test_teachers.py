"""Several teachers: which run, how often, and which of them are drawn."""

import itertools
import json
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from mmengine.dist import get_rank
from torch import nn

from mmseg_cil.contracts import Distiller, IterationSeeded, Needs
from mmseg_cil.errors import InputError
from mmseg_cil.hooks import IterationSeedHook
from mmseg_cil.models.network_output import run_network
from mmseg_cil.models.teachers import Teachers, draw_names
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.networks import (
    UNKD,
    base_step,
    batch,
    network,
    next_step,
    segmentor,
    snapshot,
)
from mmseg_cil.testing.processes import in_two_processes


@MODELS.register_module()
class KeepRecords(Distiller):
    """A distiller that keeps what it is given."""

    def __init__(self, teacher=False, teachers='all', auxiliary=False):
        super().__init__()
        self.needs = Needs(teacher, teachers, auxiliary)

    def forward(self, batch):
        self.given = batch
        return {}


def keep(**arguments):
    return dict(type='KeepRecords', **arguments)


@pytest.fixture
def three(tmp_path):
    """A config and three snapshots, of 3, 4 and 5 classes."""
    config, named = network(auxiliary='single'), {}
    for step, count in enumerate((3, 4, 5)):
        path = tmp_path / f'{step}.pth'
        base_step(config, path, count=count)
        state = torch.load(path, weights_only=True)
        for value in state['state_dict'].values():
            if value.is_floating_point():
                value.mul_(1 + step)
        torch.save(state, path)
        named[f'step_{step:02d}'] = snapshot(path, count)
    return config, named


def student(three, distillers, teacher='step_02', **arguments):
    config, named = three
    previous = named['step_02']
    torch.manual_seed(1)
    model = segmentor(
        config,
        [3, 1, 1, 2],
        previous=previous,
        teacher=named[teacher],
        teachers=arguments.pop('teachers', named),
        distillers=distillers,
        **arguments,
    )
    model.init_weights()
    return model.train()


def count_runs(model):
    """Forward passes of each teacher's backbone from now on, by its address."""
    runs = Counter()
    networks = {id(teacher): teacher for teacher in model.teachers._networks.values()}
    for key, teacher in networks.items():
        teacher.network.backbone.register_forward_hook(lambda *_, key=key: runs.update([key]))
    return runs


def test_each_snapshot_runs_once_however_many_read_it(three):
    model = student(three, [keep(), keep(teacher=True), UNKD])
    # The last teacher is the very snapshot of step 2.
    assert model.teacher is model.teachers.named('step_02')
    runs = count_runs(model)
    for times in (1, 2):
        model.loss(*batch(7))
        assert len(runs) == 3 and set(runs.values()) == {times}
    given = model.distillers[0].given
    assert list(given.teachers) == ['step_00', 'step_01', 'step_02'] and given.last is None
    assert [output.logits.shape[1] for output in given.teachers.values()] == [3, 4, 5]
    assert model.distillers[1].given.teacher is given.teachers['step_02']
    for name, record in given.teachers.items():
        expected = run_network(model.teachers.named(name).network, batch(7)[0])
        assert torch.equal(record.logits, expected.logits)


def test_only_what_is_read_is_loaded(three):
    model = student(three, [keep(teachers=('step_01',))])
    assert model.teacher is None and model.teachers.names == ('step_01',)
    runs = count_runs(model)
    model.loss(*batch(7))
    assert sum(runs.values()) == len(model.teachers._networks) == 1
    with pytest.raises(InputError, match='without asking'):
        model.distillers[0].given.teacher  # noqa: B018
    assert list(model.distillers[0].given.teachers) == ['step_01']
    model = student(three, [UNKD])
    assert model.teachers.names == () and model.teacher is not None
    assert student(three, []).teachers.configs == {}


def test_a_last_teacher_of_its_own_runs_beside_the_named(three):
    _, named = three
    model = student(
        three, [keep(), UNKD], teachers={name: named[name] for name in ('step_00', 'step_01')}
    )
    runs = count_runs(model)
    model.loss(*batch(7))
    assert len(runs) == 3
    assert 'step_02' not in model.distillers[0].given.teachers


def test_teachers_are_no_part_of_the_student(three):
    with_teachers, without = student(three, [keep()]), student(three, [])
    assert with_teachers.state_dict().keys() == without.state_dict().keys()
    own = {id(parameter) for parameter in with_teachers.parameters()}
    for name in with_teachers.teachers.names:
        teacher = with_teachers.teachers.named(name).network
        assert not any(module.training for module in teacher.modules())
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        assert not own & {id(parameter) for parameter in teacher.parameters()}


def test_pixels_have_cuts_at_what_each_teacher_knows(three):
    model = student(three, [keep()])
    model.loss(*batch(7))
    pixels = model.distillers[0].given.pixels
    whole = torch.logsumexp(pixels.upsampled[:, 3:4], dim=1)
    torch.testing.assert_close(pixels.logsumexp(3, 4), whole)
    torch.testing.assert_close(pixels.logsumexp(1, 5), pixels.upsampled[:, 1:5].logsumexp(dim=1))


def test_auxiliary_logits_are_run_where_they_are_read(three):
    model = student(three, [keep(auxiliary=True)])
    images, samples = batch(7)
    model.loss(images, samples)
    given = model.distillers[0].given
    (pixels,) = given.auxiliary
    assert pixels.num_classes == 7
    for name, record in given.teachers.items():
        teacher = model.teachers.named(name).network
        with torch.no_grad():
            expected = teacher.auxiliary_head.forward(teacher.extract_feat(images))
        torch.testing.assert_close(record.auxiliary[0], expected)
    model = student(three, [keep()])
    model.loss(images, samples)
    assert all(output.auxiliary == () for output in model.distillers[0].given.teachers.values())


def test_a_draw_runs_so_many_and_always_others(three):
    model = student(three, [keep()], teacher_draw=1)
    runs = count_runs(model)
    seen = set()
    for seed in range(20):
        model.set_iteration_seed(seed)
        model.loss(*batch(7))
        (name,) = model.distillers[0].given.teachers
        assert (name,) == model.teachers.drawn()
        seen.add(name)
    assert sum(runs.values()) == 20 and seen == set(model.teachers.names)


def test_names_that_are_no_step_are_not_drawn(three):
    _, named = three
    teachers = {**named, 'new_data': dict(named['step_00'], num_classes=3)}
    model = student(three, [keep()], teacher_draw=2, teachers=teachers)
    for seed in range(5):
        model.set_iteration_seed(seed)
        drawn = model.teachers.drawn()
        assert len(drawn) == 3 and drawn[-1] == 'new_data'
    # 'new_data' and 'step_00' are one network under two names.
    assert model.teachers.named('new_data') is model.teachers.named('step_00')


def test_every_subset_is_drawn_equally_often():
    names = ('a', 'b', 'c', 'd')
    counts = Counter(draw_names(names, 2, seed) for seed in range(3000))
    assert set(counts) == set(itertools.combinations(names, 2))
    # Five degrees of freedom: exceeded by one in a thousand.
    assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 20.5
    assert draw_names(names, None, 0) == draw_names(names, 4, 0) == names


class Drawing(IterationSeeded, nn.Module):
    """A model that hands the seed on to the teachers."""

    def __init__(self):
        super().__init__()
        self.teachers = Teachers(
            None,
            {f'step_{i:02d}': dict(checkpoint=str(i)) for i in range(5)},
            [Needs(teachers='all')],
            draw=2,
        )

    def set_iteration_seed(self, seed):
        self.teachers.set_seed(seed)


def draw_on_a_rank(folder):
    """Write what is drawn at each iteration from 0 on, and from 5 on as after a resumption."""
    drawn = {}
    for first in (0, 5):
        model, hook = Drawing(), IterationSeedHook(seed=3, step=5)
        runner = SimpleNamespace(model=nn.ModuleDict({'module': model}), iter=0)
        for runner.iter in range(first, 8):
            hook.before_train_iter(runner, 0)
            drawn.setdefault(first, []).append(list(model.teachers.drawn()))
    (folder / f'{get_rank()}.json').write_text(json.dumps(drawn))


@pytest.mark.walk
def test_all_ranks_draw_alike_and_again_after_a_resumption(tmp_path):
    in_two_processes(draw_on_a_rank, tmp_path, log=tmp_path / 'log')
    first, second = (json.loads((tmp_path / f'{rank}.json').read_text()) for rank in range(2))
    assert first == second
    assert first['5'] == first['0'][5:]
    assert len({tuple(names) for names in first['0']}) > 1


def test_the_hook_tells_every_module_that_draws(tmp_path):
    config, path = network(), tmp_path / 'step.pth'
    base_step(config, path)
    model = next_step(config, path)
    model.distillers[0].set_iteration_seed = lambda seed: told.append(seed)
    told = []
    hook = IterationSeedHook(seed=1, step=1)
    for iteration in (0, 1, 0):
        hook.before_train_iter(SimpleNamespace(model=model, iter=iteration), 0)
    assert told[0] == told[2] != told[1] and model.teachers._seed == told[0]


# Wrong input.


@pytest.mark.parametrize('draw', [0, -1, 1.5, True, 'all'])
def test_a_draw_must_be_a_positive_number(draw, tmp_path):
    with pytest.raises(InputError, match='teacher_draw'):
        segmentor(network(), [3, 2], teacher=snapshot('x', 3), teacher_draw=draw)


def test_a_name_that_is_not_there_is_refused(three):
    with pytest.raises(InputError, match=r"reads the teachers \['new_data'\]"):
        student(three, [keep(teachers=('new_data', 'step_00'))])


def test_a_named_teacher_of_a_later_step_is_refused(three):
    config, named = three
    with pytest.raises(InputError, match='teacher step_01 knows 4'):
        segmentor(config, [3, 2], teacher=named['step_00'], teachers=named, distillers=[keep()])


def test_a_missing_checkpoint_is_refused(three, tmp_path):
    with pytest.raises(InputError, match='does not exist'):
        student(three, [keep()], teachers={'step_00': snapshot(tmp_path / 'none.pth', 3)})
