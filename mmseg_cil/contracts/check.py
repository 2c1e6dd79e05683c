"""Checks of a part when it is built, which refuse a misspelt or former name of a contract.

Python lets a class define any name, so ``set_steps`` in a loss would be passed over in silence.
Refusing every unknown public name would refuse helper methods too, which are legitimate.
So three kinds of public names are refused, and only where a class of the user's own defines them:

* a name of the contract in a part that does not derive from the contract, which nothing calls;
* a former name of a contract (``reads_teachers``, ``read_teacher``);
* a name that looks like a misspelling of one of the contract's names.

Names with a leading underscore, modules, parameters, options kept by ``__init__`` and other
helpers are free. A class lists a wrongly refused helper in ``own_names``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator

from mmengine.hooks import Hook
from torch import nn

from mmseg_cil.contracts import (
    ComparisonLoss,
    Distiller,
    IterationSeeded,
    MethodPart,
    Needs,
    Regulariser,
)
from mmseg_cil.errors import InputError
from mmseg_cil.utils.near import near

#: Present form of every former name of a contract.
FORMER = {
    'read_teacher': 'receive_teacher(self, teacher)',
    'read_hidden': 'receive_hidden(self, hidden)',
    'read_classifier': 'receive_classifier(self, rows)',
    'reads_teacher': 'needs = Needs(teacher=True)',
    'reads_teachers': "needs = Needs(teachers='all')",
    'reads_auxiliary': 'needs = Needs(auxiliary=True)',
    'reads_pre_activations': 'needs = Needs(pre_activations=True)',
    'reads_replay': 'batch.replayed, which every distiller is given',
}
#: Remarks for messages on the call of parts that are called as functions.
_CALLED: dict[type, str] = {
    Distiller: '; it is called as forward(batch), with batch.student, batch.teacher, batch.pixels '
    '(mmseg_cil.contracts.Batch)',
    Regulariser: '; it is called as forward(network)',
}
#: Names of the contracts that any module of the network could define by mistake.
_TOLD = ('set_step', 'set_turns', 'set_iteration_seed', 'receive_teacher', 'receive_hidden')
#: Beginnings of the modules whose classes are not the user's own.
_STOCK = ('torch.', 'mmengine.', 'mmcv.', 'mmseg.', 'mmseg_cil.contracts', 'builtins')


def overrides(part: object, method: Callable[..., object]) -> bool:
    """Return whether a part (or a class) overrides a contract's method.

    Args:
        part: Instance or class.
        method: The contract's method, such as ``HeadLoss.receive_teacher``.
    """
    kind = part if isinstance(part, type) else type(part)
    return getattr(kind, method.__name__, method) is not method


def names_of(contract: type) -> set[str]:
    """Return the public names that a contract adds to Python's, PyTorch's and MMEngine's."""
    return {
        name
        for kind in contract.__mro__
        if kind.__module__.startswith('mmseg_cil.')
        for name in vars(kind)
        if not name.startswith('_') and name != 'own_names'
    }


def check_part(part: object, contract: type, where: str = '') -> None:
    """Refuse a part with public names that no contract knows, but that were meant for one.

    Args:
        part: The part, just built.
        contract: The contract of the part's key in the method.
        where: Key of the config, for the message.

    Raises:
        InputError: The part has such a name.
    """
    kind = type(part).__name__
    said = f'{where}: {kind}' if where else kind
    known = names_of(contract)
    if issubclass(contract, Hook):
        known |= {name for name in vars(Hook) if name.startswith(('before_', 'after_'))}
    allowed = set(getattr(part, 'own_names', ()))
    for name, value in _own_names(part):
        if name in allowed:
            continue
        if isinstance(value, Needs) and name != 'needs':
            raise InputError(f'{said} has {name} = Needs(...): the attribute is called needs')
        if name in FORMER and issubclass(contract, MethodPart):
            raise InputError(
                f'{said} has {name}, which nothing reads any more: derive from '
                f'mmseg_cil.contracts.{contract.__name__} and write {FORMER[name]}'
            )
        if name in known:
            owner = next(base for base in contract.__mro__ if name in vars(base))
            if name != 'forward' and not isinstance(part, owner):
                raise InputError(
                    f'{said} has {name}, but does not derive from the contract that it is of, so '
                    f'nothing would call it: class {kind}({owner.__name__}, ...) with from '
                    f'mmseg_cil.contracts import {owner.__name__}'
                )
            continue
        meant = _slip_of(name, known)
        if meant:
            raise InputError(
                f'{said} has {name}, which no contract knows: did you mean {meant}? If it is a '
                f'name of its own, say so in the class: own_names = ({name!r},)'
            )


def _slip_of(name: str, known: Collection[str]) -> str | None:
    """Return the known name that a name misspells; one of more or fewer words is no misspelling."""
    meant = near(name, sorted(known)) if len(name) > 5 else None
    if meant is None or meant.replace('_', '') == name.replace('_', ''):
        return meant
    return meant if meant.count('_') == name.count('_') else None


def require_contract(part: object, contract: type, where: str) -> None:
    """Refuse a part that does not derive from its contract, or that :func:`check_part` refuses.

    Args:
        part: The part, just built.
        contract: The contract of the part's key in the method.
        where: Key of the config, for the message.

    Raises:
        InputError: The part is refused, or its ``forward`` takes other arguments than the
            contract's.
    """
    check_part(part, contract, where)
    kind = type(part).__name__
    called = _CALLED.get(contract, '')
    if not isinstance(part, contract):
        raise InputError(
            f'{where}: {kind} is no {contract.__name__}: derive it from '
            f'{_page(contract)}.{contract.__name__}, which says what is called when{called}'
        )
    if called and isinstance(part, nn.Module):
        try:
            inspect.signature(part.forward).bind(None)
        except TypeError as error:
            raise InputError(f'{where}: {kind}.forward: {error}{called}') from error


def _page(contract: type) -> str:
    module = contract.__module__
    return 'mmseg_cil.contracts' if module.startswith('mmseg_cil.contracts.') else module


def check_told(module: object) -> None:
    """Refuse a module of the network with a contract's setter that nothing would call.

    Args:
        module: A head, a loss or another module, of any origin.

    Raises:
        InputError: The module has a setter of a contract but derives from no contract.
    """
    if isinstance(module, (MethodPart, IterationSeeded, ComparisonLoss, Distiller, Regulariser)):
        return
    for name, _ in _own_names(module):
        meant = FORMER[name].partition('(')[0] if name in list(FORMER)[:2] else name
        if meant in _TOLD and name not in getattr(module, 'own_names', ()):
            kind = type(module).__name__
            raise InputError(
                f'{kind} has {name}, but does not derive from the contract that it is of, so '
                f'nothing would call it: class {kind}(HeadLoss, ...) with from '
                f'mmseg_cil.contracts import HeadLoss, and {meant} as its name'
            )


def _own_names(part: object) -> Iterator[tuple[str, object]]:
    """Yield the public names, with their values, that the user's own classes define for a part.

    Among the attributes that ``__init__`` set, only former names and :class:`Needs` count; all
    others are options of the part.
    """
    for kind in type(part).__mro__:
        if not f'{kind.__module__}.'.startswith(_STOCK):
            for name, value in vars(kind).items():
                if not name.startswith('_'):
                    yield name, value
    for name, value in vars(part).items():
        if name in FORMER or isinstance(value, Needs):
            yield name, value
