"""Measures the fast form of each loss against the plain statement of its formula.

Both forms run in this process on the same tensors; their values and gradients
are compared before anything is timed. Each time is the median of interleaved
runs, forward and backward together.

    python benchmarks/losses.py [--device cuda] [--batch 2] [--repeats 5] [--only pod] [--quick]

Memory is, on a CPU, what autograd saves for the backward pass beyond the
inputs; on a GPU the peak of a run beyond the inputs. Exits with 1 if forms differ.

Sizes are those of a DeepLabV3 with ResNet-101, output stride 16, and a crop of
512 x 512: logits of 32 x 32 that the losses compare at 512 x 512, and for Local
POD and the pooled cube four stages, the ASPP output and the logits.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.baselines.lwf import shared_knowledge_distillation
from mmseg_cil.methods.baselines.reference import knowledge_distillation
from mmseg_cil.methods.dkd.loss import DenseKnowledgeDistillationLoss
from mmseg_cil.methods.dkd.reference import dense_knowledge_distillation
from mmseg_cil.methods.dkd.task_pool import groups_of_pool
from mmseg_cil.methods.mib.reference import unbiased_cross_entropy, unbiased_knowledge_distillation
from mmseg_cil.methods.mib.unbiased_cross_entropy import shared_unbiased_cross_entropy
from mmseg_cil.methods.mib.unbiased_distillation import shared_unbiased_knowledge_distillation
from mmseg_cil.methods.plop.local_pod import local_pod_distance
from mmseg_cil.methods.plop.pseudo_labels import pseudo_labels
from mmseg_cil.methods.plop.reference import local_pod, uncertainty
from mmseg_cil.methods.rcil.pooled_cube import pooled_cube_distance
from mmseg_cil.methods.rcil.reference import channel_distance, spatial_distance
from mmseg_cil.utils.step_context import StepContext

#: Called with the tensors of a case, student first; the loss is the sum of what it returns.
Form = Callable[..., Tensor]
#: Largest difference between the forms, over the largest expected value.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: The loss.
        shape: Sizes of its input, as text.
        draw: Makes the tensors, from device and batch size; the first is the student's.
        plain: The formula as it is written.
        fast: The form that the package uses.
    """

    name: str
    shape: str
    draw: Callable[[str, int], tuple[Tensor, ...]]
    plain: Form
    fast: Form


@dataclass(frozen=True)
class Group:
    """Rows that belong together.

    Attributes:
        title: Said above the rows.
        cases: Makes the rows; with True small ones that only show that they run.
        faster: Target of the ratio of times, over all rows.
        memory: Target of the ratio of memories, or None.
    """

    title: str
    cases: Callable[[bool], list[Case]]
    faster: float
    memory: float | None = None


# Cross-entropy and distillation at every pixel.


def enlarged(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits at the size of the labels."""
    return functional.interpolate(logits, labels.shape[1:], mode='bilinear', align_corners=False)


def plain_mib(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Both losses, each from enlarged logits of its own, as separate modules have them."""
    cross_entropy = unbiased_cross_entropy(enlarged(student, labels), labels, teacher.shape[1])
    distillation = unbiased_knowledge_distillation(
        enlarged(student, labels), enlarged(teacher, labels)
    )
    return torch.stack([cross_entropy.mean(), 10 * distillation.mean()])


def fast_mib(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Both losses from one pass that is shared."""
    pixels = PixelLogits(student, labels, cuts=(1, teacher.shape[1]))
    return torch.stack(
        [
            shared_unbiased_cross_entropy(pixels, teacher.shape[1]).mean(),
            10 * shared_unbiased_knowledge_distillation(pixels, teacher).mean(),
        ]
    )


def plain_lwf(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """PyTorch's cross-entropy and distillation, each from enlarged logits of its own."""
    cross_entropy = functional.cross_entropy(
        enlarged(student, labels), labels, ignore_index=255, reduction='none'
    )
    distillation = knowledge_distillation(enlarged(student, labels), enlarged(teacher, labels))
    return torch.stack([cross_entropy.mean(), 100 * distillation.mean()])


def fast_lwf(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Both losses from one pass that is shared."""
    pixels = PixelLogits(student, labels, cuts=(1, teacher.shape[1]))
    return torch.stack(
        [
            shared_unbiased_cross_entropy(pixels, 0).mean(),
            100 * shared_knowledge_distillation(pixels, teacher).mean(),
        ]
    )


def certain_classes(count: int, device: torch.device) -> Tensor:
    """Thresholds that let every second class be a pseudo-label: rounding must not decide."""
    return (torch.arange(count, device=device) % 2).float()


def plain_plop(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Entropy and prediction of the enlarged teacher, PyTorch's cross-entropy on the labels."""
    (_, old), classes = teacher.shape[:2], student.shape[1]
    large = enlarged(teacher, labels)
    predicted, known = large.argmax(dim=1), labels < old
    sure = uncertainty(large) < certain_classes(classes, labels.device)[predicted]
    completed = torch.where(known, predicted.masked_fill(~sure, 255), labels)
    factors = (known & sure).sum(dim=(1, 2)) / (known.sum(dim=(1, 2)) + 1e-6)
    loss = functional.cross_entropy(
        enlarged(student, labels), completed, ignore_index=255, reduction='none'
    )
    return (loss * factors[:, None, None]).mean()


def fast_plop(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Both from passes that keep nothing of the size of the enlarged logits."""
    classes = student.shape[1]
    completed, factors = pseudo_labels(labels, teacher, certain_classes(classes, labels.device))
    loss = shared_unbiased_cross_entropy(PixelLogits(student, completed), 0)
    return (loss * factors).mean()


def draw_logits(old: int, new: int, crop: int) -> Callable[[str, int], tuple[Tensor, ...]]:
    """Logits at stride 16 and labels: half background, some ignored, the rest new classes."""

    def draw(device: str, batch: int) -> tuple[Tensor, ...]:
        side = crop // 16
        teacher = 3 * torch.randn(batch, old, side, side, device=device)
        student = 3 * torch.randn(batch, old + new, side, side, device=device)
        labels = torch.randint(old, old + new, (batch, crop, crop), device=device)
        labels[:, : crop // 2] = 0
        labels[:, : crop // 64] = 255
        return student, teacher, labels

    return draw


def pixel_cases(name: str, plain: Form, fast: Form) -> Callable[[bool], list[Case]]:
    """ADE20K 100-50 and VOC 15-5: old and new classes, background counted."""

    def cases(quick: bool) -> list[Case]:
        crop = 64 if quick else 512
        return [
            Case(
                f'{name}, {old} + {new}',
                f'{old + new}x{crop}x{crop}',
                draw_logits(old, new, crop),
                plain,
                fast,
            )
            for old, new in ((101, 50), (16, 5))
        ]

    return cases


# DKD: every subset of the old tasks.


def dkd_forms(counts: tuple[int, ...]) -> tuple[Form, Form]:
    """Unbiased cross-entropy and DKD over all subsets of the old tasks, plain and fast.

    Args:
        counts: New classes of every step, the present one the last.
    """
    *old, _ = counts
    ends = [sum(old[: task + 1]) for task in range(len(old))]
    groups = [
        [label for task in group for label in range(ends[task] - old[task], ends[task])]
        for group in groups_of_pool('all_subsets', old)
    ]
    loss = DenseKnowledgeDistillationLoss(weighting='constant')
    loss.set_step(StepContext.of_class_counts(counts))

    def plain(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        cross_entropy = unbiased_cross_entropy(enlarged(student, labels), labels, teacher.shape[1])
        each = dense_knowledge_distillation(
            enlarged(student, labels), enlarged(teacher, labels), groups
        )
        return torch.stack([cross_entropy.mean(), each[labels != 255].mean()])

    def fast(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        pixels = PixelLogits(student, labels, cuts=(*loss.cuts(), 1))
        return torch.stack(
            [
                shared_unbiased_cross_entropy(pixels, teacher.shape[1]).mean(),
                loss.of_pixels(pixels, teacher),
            ]
        )

    return plain, fast


def dkd_cases(quick: bool) -> list[Case]:
    """VOC 15-1 at steps 3 and 5, of 7 and 31 subsets, and ADE20K 100-10 at step 2, of 3."""
    crop = 64 if quick else 512
    walks = (
        ('15-1, 3 tasks', (16, 1, 1, 1)),
        ('15-1, 5 tasks', (16, 1, 1, 1, 1, 1)),
        ('100-10, 2 tasks', (101, 10, 10)),
    )
    return [
        Case(
            f'DKD {name}',
            f'{sum(counts)}x{crop}x{crop}',
            draw_logits(sum(counts[:-1]), counts[-1], crop),
            *dkd_forms(counts),
        )
        for name, counts in walks
    ]


# Local POD.

#: Name, channels and side of every map that POD and the pooled cube compare.
POD_MAPS = (
    ('stage 1', 256, 128),
    ('stage 2', 512, 64),
    ('stage 3', 1024, 32),
    ('stage 4', 2048, 32),
    ('embedding', 256, 32),
    ('logits', 16, 32),
)


def plain_pod(student: Tensor, teacher: Tensor) -> Tensor:
    """Two embeddings and the norm of their difference."""
    return (local_pod(student**2) - local_pod(teacher**2)).norm(dim=1)


# Pooled cube.


def plain_cube(student: Tensor, teacher: Tensor) -> Tensor:
    """Both maps pooled over squares of six sizes and over channels."""
    return spatial_distance(student, teacher) + channel_distance(student, teacher)


# Maps for either.


def draw_maps(channels: int, side: int) -> Callable[[str, int], tuple[Tensor, ...]]:
    """Feature maps of teacher and a student not far from it."""

    def draw(device: str, batch: int) -> tuple[Tensor, ...]:
        teacher = torch.randn(batch, channels, side, side, device=device)
        return teacher + 0.3 * torch.randn_like(teacher), teacher

    return draw


def map_cases(name: str, plain: Form, fast: Form) -> Callable[[bool], list[Case]]:
    """Return a distance of feature maps, for every map."""

    def cases(quick: bool) -> list[Case]:
        sizes = [
            (where, channels // 16 if quick else channels, side // 4 if quick else side)
            for where, channels, side in POD_MAPS
        ]
        return [
            Case(
                f'{name}, {where}',
                f'{channels}x{side}x{side}',
                draw_maps(channels, side),
                plain,
                fast,
            )
            for where, channels, side in sizes
        ]

    return cases


GROUPS = {
    'mib': Group(
        'unbiased cross-entropy and distillation',
        pixel_cases('MiB', plain_mib, fast_mib),
        faster=2.0,
        memory=0.6,
    ),
    'lwf': Group(
        'cross-entropy and distillation', pixel_cases('LwF', plain_lwf, fast_lwf), faster=1.0
    ),
    'dkd': Group(
        'unbiased cross-entropy and DKD over all subsets', dkd_cases, faster=2.0, memory=0.6
    ),
    'plop': Group(
        'cross-entropy with pseudo-labels', pixel_cases('PLOP', plain_plop, fast_plop), faster=1.0
    ),
    'pod': Group('local POD', map_cases('POD', plain_pod, local_pod_distance), faster=4.0),
    'cube': Group('pooled cube', map_cases('cube', plain_cube, pooled_cube_distance), faster=5.0),
}


# Measuring.


def run(form: Form, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Value and the student's gradient."""
    student = inputs[0].detach().requires_grad_()
    value = form(student, *inputs[1:])
    (gradient,) = torch.autograd.grad(value.sum(), student)
    return value.detach(), gradient


def deviations(case: Case, inputs: tuple[Tensor, ...]) -> tuple[float, float]:
    """Largest differences of value and gradient, each over the largest expected number."""
    pairs = zip(run(case.fast, inputs), run(case.plain, inputs), strict=True)
    value, gradient = (
        float((fast - plain).abs().max() / plain.abs().max()) for fast, plain in pairs
    )
    return value, gradient


def milliseconds(form: Form, inputs: tuple[Tensor, ...]) -> float:
    """Return the milliseconds of one run, forward and backward."""
    if inputs[0].is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    run(form, inputs)
    if inputs[0].is_cuda:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def saved_mebibytes(form: Form, inputs: tuple[Tensor, ...]) -> float:
    """Return the bytes that autograd keeps of a forward pass, beyond the inputs."""
    student = inputs[0].detach().requires_grad_()
    known = {given.untyped_storage().data_ptr() for given in (student, *inputs)}
    saved: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            # The tensor is kept, or its address could be used again.
            saved[storage.data_ptr()] = tensor, storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = form(student, *inputs[1:])
    del value
    return sum(size for _, size in saved.values()) / 2**20


def peak_mebibytes(form: Form, inputs: tuple[Tensor, ...]) -> float:
    """Return the greatest number of bytes that a run needs beyond its inputs, on a GPU."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run(form, inputs)
    return (torch.cuda.max_memory_allocated() - before) / 2**20


@dataclass(frozen=True)
class Row:
    """Measurements of a case: plain and fast."""

    times: tuple[float, float]
    memory: tuple[float, float]
    deviations: tuple[float, float]


def measure(case: Case, device: str, batch: int, repeats: int) -> Row:
    """Compare and measure the two forms of a case."""
    torch.manual_seed(0)
    inputs = case.draw(device, batch)
    forms = case.plain, case.fast
    differences = deviations(case, inputs)
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for form, times in zip(forms, taken, strict=True):
            times.append(milliseconds(form, inputs))
    memory = peak_mebibytes if device.startswith('cuda') else saved_mebibytes
    plain, fast = (statistics.median(times) for times in taken)
    return Row((plain, fast), (memory(case.plain, inputs), memory(case.fast, inputs)), differences)


def line(name: str, shape: str, row: Row) -> str:
    """One line of the table."""
    (plain, fast), (plain_memory, fast_memory) = row.times, row.memory
    share = f'{fast_memory / plain_memory:8.0%}' if plain_memory else ' ' * 8
    return (
        f'{name:<18}{shape:>14}{plain:>10.1f}{fast:>9.1f}{plain / fast:>7.1f}'
        f'{plain_memory:>11.1f}{fast_memory:>10.1f}{share}'
        + ''.join(f'{value:>10.1e}' for value in row.deviations)
    )


def report(group: Group, device: str, arguments: argparse.Namespace) -> Iterator[bool]:
    """Print a group's rows and their sum; yields for every row whether its forms agree."""
    what = 'peak' if device.startswith('cuda') else 'saved'
    print(f'\n{group.title}, forward + backward')
    print(
        f'{"":<18}{"shape":>14}{"plain ms":>10}{"fast ms":>9}{"ratio":>7}'
        f'{f"{what} MiB":>11}{"fast MiB":>10}{"share":>8}{"value":>10}{"gradient":>10}'
    )
    rows = []
    for case in group.cases(arguments.quick):
        rows.append(measure(case, device, arguments.batch, arguments.repeats))
        print(line(case.name, case.shape, rows[-1]), flush=True)
        yield max(rows[-1].deviations) <= TOLERANCE
    times, memory = (
        [sum(pair[i] for pair in column) for i in range(2)]
        for column in ([row.times for row in rows], [row.memory for row in rows])
    )
    total = Row(
        (times[0], times[1]),
        (memory[0], memory[1]),
        (max(row.deviations[0] for row in rows), max(row.deviations[1] for row in rows)),
    )
    print(line('all', '', total))
    met = times[0] / times[1] >= group.faster
    target = f'at least {group.faster:g} times faster'
    if group.memory is not None:
        met = met and memory[1] <= group.memory * memory[0]
        target += f', at most {group.memory:.0%} of the memory'
    if not arguments.quick:
        print(f'target: {target}: {"met" if met else "missed"}')


def main() -> int:
    """Read the command line and runs the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--batch', type=int, default=2, help='images')
    parser.add_argument('--repeats', type=int, default=5, help='interleaved runs of each form')
    parser.add_argument('--only', choices=list(GROUPS), nargs='+', default=list(GROUPS))
    parser.add_argument('--quick', action='store_true', help='small sizes: only that it runs')
    arguments = parser.parse_args()
    print(
        f'{arguments.device}, batch {arguments.batch}, {torch.get_num_threads()} threads; '
        'value and gradient: largest difference over the largest number'
    )
    agree = [
        close
        for name in arguments.only
        for close in report(GROUPS[name], arguments.device, arguments)
    ]
    if not all(agree):
        print('forms differ', file=sys.stderr)
    return 0 if all(agree) else 1


if __name__ == '__main__':
    sys.exit(main())
