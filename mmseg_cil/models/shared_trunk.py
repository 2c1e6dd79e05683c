"""The frozen first layers of a step's network, which student and teachers run once for a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmseg_cil.contracts import NetworkOutput
from mmseg_cil.models.frozen_units import (
    difference,
    is_watched,
    outer_tensors,
    units_of,
    why_not_frozen,
)
from mmseg_cil.models.network_output import last_activations
from mmseg_cil.models.teacher import Teacher


@dataclass
class _Kept:
    """The outputs of the student's trunk for a batch.

    Attributes:
        calls: Name and output of each frozen unit, in the order in which the units ran, up to the
            first unit that is not frozen.
        inner: Inputs of the last activations of stages in the trunk, by the number of the stage.
        called: Names of all units that ran.
        end: Name of the first unit that ran and is not frozen; empty if none did.
    """

    calls: list[tuple[str, Any]] = field(default_factory=list)
    inner: dict[int, Tensor] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)
    end: str = ''


class SharedTrunk:
    """The part of the network that neither learns nor changes, run once for student and teachers.

    The student begins a step as its last teacher. Where the first layers of backbone and neck are
    frozen, student and teacher go on to compute the same there. In each iteration the student
    runs first and its trunk's outputs are kept; a teacher takes them in place of running these
    layers. A unit (a layer, or a stage) belongs to the trunk if all units that run before it
    do, and if

    * none of its parameters trains, and all of it computes as in evaluation;
    * the teacher's unit is the same layers with the same weights, bit by bit;
    * nobody watches modules within it (by hooks), which would not run.

    The first iteration of a step compares weights, and the teacher's outputs with and without the
    student's trunk, bit by bit; a teacher whose outputs differ shares nothing. That is the only
    iteration that waits for the device. The log says once which units are shared, or why a frozen
    unit is not. Where nothing is frozen, nothing is watched or said.

    Args:
        wanted: False: nothing is ever shared.
    """

    def __init__(self, wanted: bool = True) -> None:
        self._wanted = wanted
        #: Names of the student's frozen units with their modules; None before the first iteration.
        self._frozen: dict[str, nn.Module] | None = None
        #: Tensors and modules that stay as they are, and how they were when the step began.
        self._tensors: list[Tensor] = []
        self._modules: list[nn.Module] = []
        self._mark: list[Any] = []
        #: Names of the units that a teacher may take from the student; empty: none.
        self._shared: dict[Teacher, frozenset[str]] = {}
        self._kept: _Kept | None = None
        self._pre_activations = False

    def begin(self, student: Any, teachers: Sequence[Teacher]) -> bool:
        """Return whether the student runs before its teachers, because they may share its trunk.

        Args:
            student: The segmentor, as it is in this iteration.
            teachers: Its teachers.
        """
        if not self._wanted or not teachers or torch.compiler.is_compiling():
            return False
        if self._frozen is None:
            self._find_frozen(student)
        elif self._frozen and self._mark != self._marked():
            self._end('it was trained, loaded or set to another mode since the step began')
        return bool(self._frozen) and any(self._shared.get(each, True) for each in teachers)

    def _find_frozen(self, student: Any) -> None:
        """Find the student's frozen units; leave none if there is no use in watching them."""
        units = units_of(student)
        self._frozen = {name: unit for name, unit in units.items() if not why_not_frozen(unit)}
        if not any(_has_weights(unit) and not _trains(unit) for unit in units.values()):
            self._frozen = {}
        elif any(tensor.requires_grad for tensor in outer_tensors(student)):
            self._end('a parameter of the backbone itself is trained')
        elif _is_compiled(student):
            self._end('the student is compiled, or its methods are replaced')
        frozen = list(self._frozen.values())
        self._tensors = [t for unit in frozen for t in (*unit.parameters(), *unit.buffers())]
        self._tensors += outer_tensors(student)
        self._modules = [module for unit in frozen for module in unit.modules()]
        self._mark = self._marked()

    def _marked(self) -> list[Any]:
        """Return what changes when the frozen units change: versions of tensors, and modes."""
        return [
            *((tensor._version, tensor.requires_grad) for tensor in self._tensors),
            *(module.training for module in self._modules),
        ]

    def _end(self, reason: str) -> None:
        """Share nothing for the rest of the step, and say why."""
        self._frozen = {}
        print_log(f'student and teachers share no layers: {reason}', 'current')

    @contextlib.contextmanager
    def keeping(self, student: Any, pre_activations: bool, shares: bool) -> Iterator[None]:
        """Keep the outputs of the trunk while the student's backbone and neck run in the block.

        Args:
            student: The segmentor.
            pre_activations: Keep the pre-activations of the stages too.
            shares: The answer of :meth:`begin`; False: nothing is kept.
        """
        if not shares:
            yield
            return
        frozen, kept = self._frozen or {}, _Kept()
        self._kept, self._pre_activations = kept, pre_activations
        handles = [
            unit.register_forward_hook(partial(_keep, kept, name, name in frozen))
            for name, unit in units_of(student).items()
        ]
        if pre_activations:
            for place, activation in enumerate(last_activations(student.backbone)):
                keep = partial(_keep_inner, kept, place)
                handles.append(activation.register_forward_pre_hook(keep))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def forget(self) -> None:
        """Let go of the batch's outputs."""
        self._kept = None

    def run(self, student: Any, teacher: Teacher, run: Callable[[], NetworkOutput]) -> Any:
        """Run a teacher on the student's batch, with the student's outputs where both are the same.

        Args:
            student: The segmentor.
            teacher: The teacher.
            run: Runs the teacher as it is.

        Returns:
            The outputs of ``run``, to the bit.
        """
        kept = self._kept
        if kept is None:
            return run()
        if teacher not in self._shared:
            return self._compare(student, kept, teacher, run)
        if not self._shared[teacher]:
            return run()
        with self._taking(teacher, kept):
            return run()

    def _compare(
        self, student: Any, kept: _Kept, teacher: Teacher, run: Callable[[], NetworkOutput]
    ) -> NetworkOutput:
        """Run a teacher alone, find what it may share, and try that."""
        record = run()
        names, reason = self._equal_units(student, kept, teacher)
        self._shared[teacher] = names
        if names:
            with self._taking(teacher, kept) as taken:
                again = run()
            if not taken or not _same(record, again):
                self._shared[teacher] = frozenset()
                reason = 'its outputs with the frozen layers of the student are others'
            else:
                print_log(
                    f'student and {teacher.source} run {len(taken)} frozen layers once: '
                    f'{taken[0]} to {taken[-1]}',
                    'current',
                )
        if not self._shared[teacher]:
            print_log(f'student and {teacher.source} share no layers: {reason}', 'current')
        return record

    def _equal_units(
        self, student: Any, kept: _Kept, teacher: Teacher
    ) -> tuple[frozenset[str], str]:
        """Return the units of the kept calls that are a teacher's too, or none and the reason."""
        if teacher.form.compile is not False:
            return frozenset(), 'the teacher is compiled (method.teacher_form.compile)'
        own, others = units_of(student), units_of(teacher.network)
        if not any(_has_weights(own[name]) for name, _ in kept.calls):
            reason = why_not_frozen(own[kept.end]) if kept.end else ''
            return frozenset(), f'{kept.end or "no layer"} runs first and {reason or "is not kept"}'
        if not _equal_lists(outer_tensors(student), outer_tensors(teacher.network)):
            return frozenset(), 'parameters of the backbone itself have other values'
        told = {
            name: difference(own[name], others[name]) if name in others else 'is not there'
            for name in own
        }
        for name, unit in own.items():
            if name not in kept.called and _learns(unit) and (_trains(unit) or told[name]):
                # Whatever runs unseen may run before the trunk.
                return frozenset(), f'{name} runs in a way that cannot be followed'
        names: list[str] = []
        for name, _ in kept.calls:
            if told[name]:
                break
            names.append(name)
        if any(_has_weights(own[name]) for name in names):
            return frozenset(names), ''
        name = kept.calls[len(names)][0]
        return frozenset(), f'{name} {told[name]}'

    @contextlib.contextmanager
    def _taking(self, teacher: Teacher, kept: _Kept) -> Iterator[list[str]]:
        """Let a teacher take the student's outputs within the block; yield the units that did."""
        taken: list[str] = []
        shared, network = self._shared[teacher], teacher.network
        activations = last_activations(network.backbone) if self._pre_activations else []
        places = {id(module): place for place, module in enumerate(activations)}
        state = {'follows': True}

        def forward(name: str, unit: nn.Module, *inputs: Any, **options: Any) -> Any:
            number = len(taken)
            inner = list(unit.modules())
            state['follows'] &= (
                number < len(kept.calls)
                and kept.calls[number][0] == name
                and not any(is_watched(m) for m in inner[1:] if id(m) not in places)
            )
            if not state['follows']:
                return type(unit).forward(unit, *inputs, **options)
            taken.append(name)
            for module in inner:
                if id(module) in places:
                    # The hooks of the activation see the map, as if the stage had run.
                    module(kept.inner[places[id(module)]])
            return kept.calls[number][1]

        units = {name: unit for name, unit in units_of(network).items() if name in shared}
        try:
            for name, unit in units.items():
                unit.forward = partial(forward, name, unit)
            yield taken
        finally:
            for unit in units.values():
                unit.__dict__.pop('forward', None)


def _keep(kept: _Kept, name: str, frozen: bool, unit: nn.Module, inputs: Any, output: Any) -> None:
    kept.called.add(name)
    if not kept.end and not (frozen and _is_plain_output(output)):
        kept.end = name
    if not kept.end:
        kept.calls.append((name, output))


def _keep_inner(kept: _Kept, place: int, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    if not kept.end:
        kept.inner[place] = inputs[0]


def _is_plain_output(value: Any) -> bool:
    """Return whether an output is made of tensors without gradients, numbers and tuples of them."""
    if isinstance(value, Tensor):
        return not value.requires_grad
    if isinstance(value, tuple):
        return all(_is_plain_output(part) for part in value)
    return value is None or isinstance(value, (int, float, str))


def _is_compiled(student: Any) -> bool:
    """Return whether methods of a segmentor or its backbone are not those of their classes."""
    methods = ('forward', 'loss', 'train_step', 'extract_feat', '_run_forward')
    return any(
        getattr(module, '_compiled_call_impl', None) is not None
        or any(method in vars(module) for method in methods)
        for module in (student, student.backbone, *units_of(student).values())
    )


def _trains(unit: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in unit.parameters())


def _learns(unit: nn.Module) -> bool:
    return next(unit.parameters(), None) is not None


def _has_weights(unit: nn.Module) -> bool:
    """Return whether a unit has weights of a layer, and not just scales and shifts of a norm."""
    return any(parameter.dim() > 1 for parameter in unit.parameters())


def _equal_lists(own: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(own) == len(others) and all(map(torch.equal, own, others))


def _same(first: NetworkOutput, second: NetworkOutput) -> bool:
    """Return whether two records are equal to the bit, formats and layouts in memory included."""

    def same(value: Any, other: Any) -> bool:
        if isinstance(value, tuple):
            return len(value) == len(other) and all(map(same, value, other))
        if isinstance(value, Tensor):
            alike = value.dtype == other.dtype and value.stride() == other.stride()
            return alike and torch.equal(value, other)
        return type(value) is type(other)

    return all(same(getattr(first, f.name), getattr(second, f.name)) for f in fields(first))
