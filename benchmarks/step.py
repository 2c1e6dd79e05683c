"""Measures a whole training step of every method against plain fine-tuning.

    python benchmarks/step.py [--device cuda] [--model configs/_base_/models/deeplabv3_r101-d16.py]
        [--batch 6] [--crop 512] [--classes 16 5] [--tasks 1] [--amp] [--methods mib plop]
        [--snapshots 1 2 5] [--forms folded bfloat16] [--student channels_last fused]
        [--frozen first backbone] [--plain]
        [--repeats 10] [--least] [--json FILE] [--quick]

Every method of ``configs/_base_/methods`` trains the second step of a walk, or
that after ``--tasks`` others, on random images, as MMEngine does it:
preprocessing, forward, backward, optimizer. A method that learns from the
snapshots of all earlier steps has a row for each number in ``--snapshots``.
One that distils an auxiliary head (M2KD) does without where the model has none,
as the default has not, and its row says so; ``deeplabv3_r101-d16_aux`` and the other
models ``*_aux``, which its configs have, measure it in full.
Beside them run, interleaved with them in this process,

* "fine-tuning": MMSegmentation's own ``EncoderDecoder`` with cross-entropy, the
  network and the number of classes being the same;
* "limit": that and one run of a teacher without gradients: what a method that
  learns from a teacher costs at least.

``--student`` adds a row for every method with each of these forms of the student:
``channels_last``, ``fused`` (the optimizer), ``compiled``, ``recomputed``
(``activation_checkpointing`` of the backbone), ``bfloat16`` (mixed precision), and ``all``
(channels last, fused and bfloat16 together). The method ``finetune`` has such rows for fine-tuning.

``--forms`` adds a row for the limit and for every method that has a teacher with each of these
forms of the teacher (``method.teacher_form``), ``--frozen`` rows in which the first stages or the
whole backbone are frozen, for fine-tuning and for every method that has a teacher, each with and
without "shared": student and teacher run the frozen layers once. ``--plain`` adds rows for the
methods of ``benchmarks/plain_steps.py`` as one would write them first: the plain teacher, and
losses from logits of all classes at the size of the labels.

Printed are the median times (with ``--least`` the least ones, for machines that do other things as
well), their ratios to fine-tuning, and memory: on a GPU
the peak of a step with weights, optimizer and teacher, on a CPU what autograd
saves. First it is checked that our segmentor without a method is fine-tuning
bit by bit; otherwise it exits with 1. Methods that consist of the same parts
(fine-tuning, joint training) run once.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from outcome import write_outcome
from plain_steps import PLAIN
from step_contestants import (
    FORMS,
    FROZEN,
    STUDENTS,
    Contestant,
    in_form,
    plainly,
    training,
    with_teacher,
)
from step_networks import (
    methods_of,
    network_config,
    random_batch,
    segmentor_of,
    trained_before,
)

from mmseg_cil.contracts import TeacherForm
from mmseg_cil.models.plain import plain_model_config
from mmseg_cil.models.teacher import Teacher
from mmseg_cil.registry import MODELS

#: Ratio to fine-tuning that a method's step should stay below, in any form; M2KD's with up to four
#: snapshots.
TARGETS = {
    'mib': 1.15,
    'lwf': 1.15,
    'ilt': 1.15,
    'plop': 1.15,
    'rcil': 1.5,
    'vdfd': 1.01,
    'm2kd': 1.6,
}


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what MMEngine tells of every weight, and MMSegmentation's advice on its loss."""
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Default ``avg_non_ignore``')
            yield
    finally:
        logging.disable(logging.NOTSET)


# Contestants.


def is_fine_tuning(ours: nn.Module, plain: nn.Module, data: dict) -> bool:
    """Return whether our segmentor without a method has MMSegmentation's losses and gradients."""
    results: list[list[Tensor]] = []
    for network in (ours.train(), plain.train()):
        torch.manual_seed(2)
        batch = network.data_preprocessor(data, True)  # type: ignore[operator]
        losses = network.loss(**batch)  # type: ignore[operator]
        losses = [value for name, value in losses.items() if 'loss' in name]
        learnt = [weight for weight in network.parameters() if weight.requires_grad]
        gradients = torch.autograd.grad(sum(losses), learnt)
        results.append([*losses, *gradients])
    return all(torch.equal(result, twin) for result, twin in zip(*results, strict=True))


def contestants(arguments: argparse.Namespace, folder: Path, data: dict) -> list[Contestant]:
    """Fine-tuning, the limit, and every method.

    Raises:
        AssertionError: Our segmentor without a method is not fine-tuning.
    """
    classes, amp, device = tuple(arguments.classes), arguments.amp, arguments.device
    model = network_config(arguments.model, arguments.crop)
    previous = trained_before(model, classes[0], folder / 'step.pth')
    ours = segmentor_of(dict(name='none'), model, classes, previous, data, device)

    def student() -> nn.Module:
        network: nn.Module = MODELS.build(plain_model_config(model, sum(classes))).to(device)
        network.load_state_dict(ours.state_dict())
        return network

    plain, again = student(), student()
    assert is_fine_tuning(ours, plain, data), 'our segmentor without a method is not fine-tuning'
    teacher = MODELS.build(plain_model_config(model, classes[0])).to(device)
    found = [training('fine-tuning', plain, amp), with_teacher(again, teacher, amp)]
    frozen = {name: FROZEN[name] for name in arguments.frozen or ()}
    forms: dict[str, dict] = {name: FORMS[name] for name in arguments.forms or ()}
    for name, form in forms.items():
        formed = Teacher(model, **previous, form=TeacherForm.from_config(form))
        found.append(in_form(f'limit {name}', student(), formed, amp))
    if arguments.plain:
        found += [
            plainly(name, segmentor_of(method, model, classes, previous, data, device), amp)
            for name, method in methods_of(arguments.methods).items()
            if name in PLAIN
        ]
    for name, freezing in frozen.items():
        held = segmentor_of(
            dict(name='none', freezing=freezing), model, classes, previous, data, device
        )
        found.append(training(f'fine-tuning {name}', held, amp))
    for name, method in methods_of(arguments.methods).items():
        counts = arguments.snapshots if method.get('teachers') == 'all' else [arguments.tasks]
        for count in counts or [arguments.tasks]:
            earlier = [
                trained_before(model, classes[0] - left, folder / f'{left}_before.pth')
                for left in range(count - 1, 0, -1)
            ]
            label = f'{name}, {count}' if len(counts or ()) > 1 else name
            for variant, changes in variants(forms, frozen).items():
                segmentor = segmentor_of(
                    {**method, **changes}, model, classes, previous, data, device, count, earlier
                )
                if variant and not segmentor.teachers.networks:
                    continue
                found.append(training(f'{label} {variant}'.rstrip(), segmentor, amp))
            for student_form in arguments.student or ():
                order = student_form in ('channels_last', 'all')
                segmentor = segmentor_of(
                    method, model, classes, previous, data, device, count, earlier, order
                )
                found.append(training(f'{label}, {student_form}', segmentor, amp, student_form))
    return found


def variants(forms: dict[str, dict], frozen: dict[str, dict]) -> dict[str, dict]:
    """Return the changes of a method's config for its rows, by what is added to its name."""
    found = {'': {}, **{name: {'teacher_form': form} for name, form in forms.items()}}
    for name, freezing in frozen.items():
        found[name] = {'freezing': freezing, 'teacher_form': {'shared_trunk': False}}
        found[f'{name} shared'] = {'freezing': freezing}
    return found


# Measuring.


def seconds(contestant: Contestant, data: dict, device: str) -> float:
    """Return the seconds of one step."""
    if device.startswith('cuda'):
        torch.cuda.synchronize()
    start = time.perf_counter()
    losses = contestant.step(data)
    if device.startswith('cuda'):
        torch.cuda.synchronize()
    assert torch.isfinite(losses['loss']), f'{contestant.name}: the loss is not finite'
    return time.perf_counter() - start


def mebibytes(contestant: Contestant, data: dict, device: str) -> float:
    """On a GPU the peak of a step and what stays between steps; on a CPU what autograd saves."""
    if not device.startswith('cuda'):
        saved: dict[int, tuple[Tensor, int]] = {}

        def pack(tensor: Tensor) -> Tensor:
            # The tensor is kept, or its address could be used again.
            storage = tensor.untyped_storage()
            saved[storage.data_ptr()] = tensor, storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            contestant.step(data)
        return sum(size for _, size in saved.values()) / 2**20
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    contestant.step(data)
    weights = sum(
        parameter.nbytes * (2 if parameter.requires_grad else 1)  # and its momentum
        for part in contestant.parts
        for parameter in part.parameters()
    )
    return (torch.cuda.max_memory_allocated() - before + weights) / 2**20


def verdict(name: str, ratio: float) -> str:
    """Return whether a method's target is met; nothing for a plain statement."""
    target = None if name.endswith('plain') else TARGETS.get(name.split()[0].rstrip(','))
    return '' if target is None else f'<= {target:.2f} {"met" if ratio <= target else "missed"}'


def report(rows: list[Contestant], data: dict, arguments: argparse.Namespace) -> None:
    """Measures all and prints the table."""
    device = arguments.device
    for row in rows:
        for _ in range(arguments.warm_up):
            seconds(row, data, device)
    times: dict[str, list[float]] = {row.name: [] for row in rows}
    for _ in range(arguments.repeats):
        for row in rows:
            times[row.name].append(seconds(row, data, device))
    typical = min if arguments.least else statistics.median
    medians = {name: typical(taken) for name, taken in times.items()}
    memory = {row.name: mebibytes(row, data, device) for row in rows}
    on_gpu = device.startswith('cuda')
    if arguments.json:
        write_outcome(
            arguments.json,
            [
                dict(
                    name=name,
                    seconds=medians[name],
                    mebibytes=memory[name],
                    all_seconds=times[name],
                )
                for name in times
            ],
        )
    width = max(16, *(len(row.name) + 2 for row in rows))
    print(
        f'{"":<{width}}{"ms":>10}{"ratio":>8}{"to limit":>10}'
        f'{"peak MiB" if on_gpu else "saved MiB":>11}{"ratio":>8}  target'
    )
    for row in rows:
        name = row.name
        ratio = medians[name] / medians['fine-tuning']
        print(
            f'{name:<{width}}{1000 * medians[name]:>10.1f}{ratio:>8.2f}'
            f'{medians[name] / medians["limit"]:>10.2f}{memory[name]:>11.0f}'
            f'{memory[name] / memory["fine-tuning"]:>8.2f}  '
            + f'{verdict(name, ratio)} {row.note}'.strip()
        )


def main() -> int:
    """Read the command line and runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--model', type=Path, help='default: deeplabv3_r101-d16')
    parser.add_argument('--batch', type=int, default=6)
    parser.add_argument('--crop', type=int, default=512)
    parser.add_argument('--classes', type=int, nargs=2, default=(16, 5), metavar=('OLD', 'NEW'))
    parser.add_argument(
        '--tasks',
        type=int,
        default=1,
        help='earlier steps; all but the first brought one class each',
    )
    parser.add_argument(
        '--snapshots',
        type=int,
        nargs='+',
        metavar='N',
        help='for methods that learn from all earlier steps; default: --tasks',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--methods', nargs='+', help='file names in configs/_base_/methods')
    parser.add_argument('--forms', nargs='+', choices=list(FORMS), help='of the teacher')
    parser.add_argument('--frozen', nargs='+', choices=list(FROZEN), help='parts of the backbone')
    parser.add_argument('--student', nargs='+', choices=STUDENTS, help='forms of the student')
    parser.add_argument('--plain', action='store_true', help='some methods in plain form, too')
    parser.add_argument('--json', type=Path, help='file for the numbers')
    parser.add_argument('--least', action='store_true', help='least times in place of medians')
    parser.add_argument('--repeats', type=int, default=10)
    parser.add_argument('--warm-up', type=int, default=2)
    parser.add_argument('--quick', action='store_true', help='a thin network: only that it runs')
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.batch, arguments.crop, arguments.repeats, arguments.warm_up = 2, 32, 1, 0
    arguments.model = arguments.model or ROOT / 'configs/_base_/models' / (
        'fcn_r18-thin.py' if arguments.quick else 'deeplabv3_r101-d16.py'
    )
    for count in (arguments.tasks, *(arguments.snapshots or ())):
        if not 1 <= count <= arguments.classes[0]:
            parser.error('--tasks and --snapshots must be between 1 and the number of old classes')
    if arguments.batch < 2:
        parser.error('--batch must be at least 2: batch norm over pooled images needs two')
    init_default_scope('mmseg_cil')
    print(
        f'{arguments.device}, {arguments.model.stem}, batch {arguments.batch}, '
        f'crop {arguments.crop}, {arguments.classes[0]} + {arguments.classes[1]} classes'
        f'{", mixed precision" if arguments.amp else ""}, {torch.get_num_threads()} threads'
    )
    data = random_batch(arguments.batch, arguments.crop, tuple(arguments.classes))
    with tempfile.TemporaryDirectory() as folder, quietly():
        rows = contestants(arguments, Path(folder), data)
    report(rows, data, arguments)
    return 0


if __name__ == '__main__':
    sys.exit(main())
