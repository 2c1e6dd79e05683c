"""Names that no contract knows are refused when a part is built; a part's own names are not."""

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from mmseg_cil.contracts import (
    Batch,
    ComparisonLoss,
    Distiller,
    HeadLoss,
    MethodPart,
    Needs,
    NetworkOutput,
    PixelLoss,
    Regulariser,
    StepHook,
)
from mmseg_cil.contracts.check import check_part, check_told, overrides, require_contract
from mmseg_cil.errors import InputError
from mmseg_cil.registry import HOOKS, MODELS


def made(base, **members):
    """A part of a class that a user might write."""
    return type('Mine', base if isinstance(base, tuple) else (base,), members)()


def nothing(self, *_):
    """A method of any name."""


@pytest.mark.parametrize(
    ('base', 'contract', 'members', 'message'),
    [
        # A slip of the keyboard.
        ((HeadLoss, nn.Module), PixelLoss, dict(set_steps=nothing), 'did you mean set_step'),
        ((HeadLoss, nn.Module), PixelLoss, dict(recieve_teacher=nothing), 'receive_teacher'),
        (Distiller, Distiller, dict(need=Needs()), 'the attribute is called needs'),
        (Regulariser, Regulariser, dict(attatch=nothing), 'did you mean attach'),
        (Hook, StepHook, dict(before_trian=nothing), 'did you mean before_train'),
        (StepHook, StepHook, dict(after_steps=nothing), 'did you mean after_step'),
        # A name of a contract in a class that does not keep it.
        (nn.Module, PixelLoss, dict(set_step=nothing), r'class Mine\(MethodPart'),
        (nn.Module, PixelLoss, dict(cuts=nothing), r'class Mine\(PixelLoss'),
        ((HeadLoss, nn.Module), PixelLoss, dict(of_pixels=nothing), r'class Mine\(PixelLoss'),
        (Hook, StepHook, dict(after_step=nothing), r'class Mine\(StepHook'),
        (Hook, StepHook, dict(rehearsed=True), r'class Mine\(StepHook'),
        # The names of the version before.
        (nn.Module, Distiller, dict(reads_teachers=True), r"needs = Needs\(teachers='all'\)"),
        (Distiller, Distiller, dict(reads_auxiliary=True), r'needs = Needs\(auxiliary=True\)'),
        ((HeadLoss, nn.Module), PixelLoss, dict(read_hidden=nothing), 'receive_hidden'),
    ],
)
def test_a_name_that_nothing_would_call_is_refused(base, contract, members, message):
    with pytest.raises(InputError, match=message):
        check_part(made(base, **members), contract)


@pytest.mark.parametrize(
    ('base', 'contract', 'members'),
    [
        (nn.Module, PixelLoss, dict(loss_name='loss_x', per_pixel=nothing, weights=nothing)),
        ((HeadLoss, nn.Module), PixelLoss, dict(set_step=nothing, step_of=nothing, cut=1)),
        (Distiller, Distiller, dict(_reads_teachers=True, compare=nothing, maps=nothing)),
        (Distiller, Distiller, dict(set_steps=nothing, own_names=('set_steps',))),
        (Regulariser, Regulariser, dict(set_earlier_steps=nothing, penalty=nothing)),
        (Hook, StepHook, dict(before_train=nothing, after_my_step=nothing, priority='LOW')),
        (StepHook, StepHook, dict(after_step=nothing, step=nothing, keep=nothing)),
    ],
)
def test_a_part_s_own_names_are_free(base, contract, members):
    check_part(made(base, **members), contract)


def test_options_and_modules_of_a_part_are_its_own():
    class Mine(Distiller):
        def __init__(self):
            super().__init__()
            self.need, self.teachers, self.attached = 3, ('a',), nn.Linear(1, 1)

    check_part(Mine(), Distiller)

    class Former(nn.Module):
        def __init__(self):
            super().__init__()
            self.reads_teacher = False

    with pytest.raises(InputError, match='reads_teacher, which nothing reads'):
        check_part(Former(), Distiller)


def test_a_part_that_does_not_keep_its_contract_is_refused():
    with pytest.raises(InputError, match=r'Mine is no Distiller.*batch\.student'):
        require_contract(made(nn.Module, forward=nothing), Distiller, 'method.distillers')

    class OfThree(Distiller):
        def forward(self, student, teacher, pixels):
            return {}

    with pytest.raises(InputError, match=r'OfThree\.forward: .*batch\.pixels'):
        require_contract(OfThree(), Distiller, 'method.distillers')


def test_a_head_that_waits_for_the_step_is_refused():
    for name in ('set_step', 'read_teacher', 'receive_hidden', 'set_iteration_seed'):
        with pytest.raises(InputError, match=name):
            check_told(made(nn.Module, **{name: nothing}))
    check_told(made((MethodPart, nn.Module), set_step=nothing))
    check_told(made(nn.Module, step=nothing, attach=nothing, cuts=nothing))


def test_all_parts_of_the_package_keep_their_contracts():
    contracts = (PixelLoss, HeadLoss, ComparisonLoss, Distiller, Regulariser, StepHook)
    checked = set()
    for registry in (MODELS, HOOKS):
        registry.import_from_location()
    for kind in [*MODELS.module_dict.values(), *HOOKS.module_dict.values()]:
        contract = next((base for base in contracts if issubclass(kind, base)), None)
        if contract is not None and kind.__module__.startswith('mmseg_cil.'):
            part = kind.__new__(kind)
            if isinstance(part, nn.Module):
                nn.Module.__init__(part)
            check_part(part, PixelLoss if contract is HeadLoss else contract)
            checked.add(contract)
    assert checked == set(contracts)


def test_overrides_tells_a_form_of_its_own_from_the_contract_s():
    quiet, loud = made(StepHook), made(StepHook, after_step=nothing)
    assert overrides(loud, StepHook.after_step) and overrides(type(loud), StepHook.after_step)
    assert not overrides(quiet, StepHook.after_step)


def test_a_batch_has_what_was_asked_for_and_nothing_else():
    record = NetworkOutput((), torch.zeros(1), torch.zeros(1))
    batch = Batch(record, None, record, {'step_00': record, 'new': record}, [None], 2)
    only = batch.for_needs(Needs(teachers=('new', 'gone')))
    assert list(only.teachers) == ['new'] and only.auxiliary == () and only.replayed == 2
    with pytest.raises(InputError, match=r'Needs\(teacher=True\)'):
        assert only.teacher
    every = batch.for_needs(Needs(True, 'all', auxiliary=True))
    assert every == batch and every.teacher is record
    with pytest.raises(InputError, match=r"\('new',\)"):
        Needs(teachers='new')
