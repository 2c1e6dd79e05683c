"""The networks that ``benchmarks/step.py`` times, each with its training step."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from plain_steps import plain_step

from mmseg_cil.contracts import Distiller
from mmseg_cil.engine.config.mixed_precision import BFloat16OptimWrapper
from mmseg_cil.models.compile_options import compile_options
from mmseg_cil.models.compiled_student import compile_network
from mmseg_cil.models.network_output import run_network
from mmseg_cil.models.recomputation import recompute_activations
from mmseg_cil.models.teacher import Teacher

#: Forms of teachers by the names that ``--forms`` has for them.
FORMS = {
    'folded': dict(fold_norms=True),
    'channels_last': dict(channels_last=True),
    'both': dict(fold_norms=True, channels_last=True),
    'once': dict(dtype='run'),
    'bfloat16': dict(fold_norms=True, channels_last=True, dtype='bfloat16'),
}
#: Stem and the first two stages of a ResNet, and any backbone, by the names of ``--frozen``.
_FIRST = ['backbone.[!l]*', 'backbone.layer1', 'backbone.layer2']
FROZEN = {
    'first': dict(parameters=_FIRST, evaluation=_FIRST),
    'backbone': dict(parameters=['backbone'], evaluation=['backbone']),
}
#: Forms of the student by the names that ``--student`` has for them.
STUDENTS = ('channels_last', 'fused', 'compiled', 'recomputed', 'bfloat16', 'all')
#: The note on a method that distils auxiliary heads where the model has none.
NO_HEAD = '(no auxiliary head in this model: without the loss of it)'


@dataclass
class Contestant:
    """Something whose step is timed.

    Attributes:
        name: For the table.
        step: Runs one training step and returns the losses.
        parts: Modules whose weights it needs.
        note: Remark on parts that are not measured, for the end of its row.
    """

    name: str
    step: Callable[[dict], dict[str, Tensor]]
    parts: list[nn.Module]
    note: str = ''


def optimizer_of(network: nn.Module, amp: bool, fused: bool = False) -> OptimWrapper:
    """SGD as the official scripts have it."""
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=1e-4,
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-4,
        fused=fused or None,
    )
    if not amp:
        return OptimWrapper(optimizer)
    on_gpu = next(network.parameters()).is_cuda
    return (AmpOptimWrapper if on_gpu else BFloat16OptimWrapper)(optimizer=optimizer)


def in_student_form(form: str, network: nn.Module) -> None:
    """Give a network a form of ``--student``, in place; 'channels_last' is an argument of its own.

    ``all`` is what a CPU or GPU gains most of together: channels last, fused, bfloat16.
    """
    if form == 'recomputed':
        recompute_activations(network, ['backbone'])
    if form == 'compiled':
        options = compile_options(True)
        assert options is not None
        compile_network(network, options)


def training(name: str, network: nn.Module, amp: bool, form: str = '') -> Contestant:
    """Return a network that trains as MMEngine trains it."""
    network.train()
    in_student_form(form, network)
    optimizer = optimizer_of(network, amp or form in ('bfloat16', 'all'), form in ('fused', 'all'))
    teachers, replay = (getattr(network, attribute, None) for attribute in ('teachers', '_replay'))
    parts = [
        network,
        *(
            part.network
            for part in (*(teachers.networks if teachers else ()), *([replay] if replay else []))
        ),
    ]
    drawing = [module for module in network.modules() if hasattr(module, 'set_iteration_seed')]
    seeds = itertools.count()

    def step(data: dict) -> dict[str, Tensor]:
        seed = next(seeds)
        for module in drawing:
            module.set_iteration_seed(seed)  # type: ignore[operator]
        losses: dict[str, Tensor] = network.train_step(data, optimizer)  # type: ignore[operator]
        return losses

    return Contestant(name, step, parts, NO_HEAD if lacks_auxiliary(network) else '')


def lacks_auxiliary(network: nn.Module) -> bool:
    """Return whether its method distils auxiliary heads, of which the model has none."""
    reads = any(
        isinstance(module, Distiller) and module.needs.auxiliary for module in network.modules()
    )
    return reads and not network.with_auxiliary_head


def with_teacher(plain: nn.Module, teacher: nn.Module, amp: bool) -> Contestant:
    """Fine-tuning and one run of a teacher whose outputs nobody reads."""
    student = training('limit', plain, amp)
    teacher.eval().requires_grad_(False)
    device = next(teacher.parameters()).device.type

    def step(data: dict) -> dict[str, Tensor]:
        inputs = teacher.data_preprocessor(data, True)['inputs']  # type: ignore[operator]
        with torch.autocast(device, enabled=amp):
            run_network(teacher, inputs)
        return student.step(data)

    return Contestant('limit', step, [plain, teacher])


def in_form(name: str, plain: nn.Module, teacher: Teacher, amp: bool) -> Contestant:
    """Fine-tuning and one run of a teacher in a form, whose outputs nobody reads."""
    student = training(name, plain, amp)
    device = next(plain.parameters()).device.type

    def step(data: dict) -> dict[str, Tensor]:
        inputs = plain.data_preprocessor(data, True)['inputs']  # type: ignore[operator]
        with torch.autocast(device, enabled=amp):
            teacher(inputs)
        return student.step(data)

    return Contestant(name, step, [plain, teacher.network])


def plainly(name: str, network: nn.Module, amp: bool) -> Contestant:
    """Return a method as one would write it first, from the logits of all classes at all pixels.

    Args:
        name: Key of ``plain_steps.PLAIN``.
        network: The method's segmentor, which has loaded its teacher.
        amp: Automatic mixed precision.
    """
    network.train()
    teacher = network.teacher
    parts = [network, *([teacher.network] if teacher else [])]  # type: ignore[union-attr]
    note = '(no auxiliary head)' if network.with_auxiliary_head else ''
    step = plain_step(name, network, optimizer_of(network, amp))
    return Contestant(f'{name}, plain', step, parts, note)
