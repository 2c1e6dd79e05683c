"""Measures the fast form of each loss against the plain statement of its formula.

Both forms run in this process on the same tensors; their values and gradients
are compared before anything is timed. Each time is the median of interleaved
runs, forward and backward together.

    python benchmarks/losses.py [--device cuda] [--batch 2] [--repeats 5] [--only pod] [--least]
        [--json FILE] [--quick]

Memory is beyond the inputs: "saved", what autograd keeps for the backward pass, and "peak", the
greatest number of bytes in use during a run (see ``peaks.py``). Exits with 1 if forms differ. The
losses and their sizes are in ``loss_forms.py`` and ``map_forms.py``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from loss_cases import TOLERANCE, Case, Form, Group
from loss_forms import GROUPS
from outcome import write_outcome
from peaks import peak_of, saved_of


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


@dataclass(frozen=True)
class Row:
    """Measurements of a case, pairs of plain and fast.

    Attributes:
        milliseconds: Duration of a run, forward and backward.
        saved_mebibytes: Kept for the backward pass.
        peak_mebibytes: Greatest number in use.
        deviations: Differences of value and gradient.
    """

    milliseconds: tuple[float, float]
    saved_mebibytes: tuple[float, float]
    peak_mebibytes: tuple[float, float]
    deviations: tuple[float, float]


def measure(case: Case, arguments: argparse.Namespace) -> Row:
    """Compare and measure the two forms of a case."""
    torch.manual_seed(0)
    inputs = case.draw(arguments.device, arguments.batch)
    forms = case.plain, case.fast
    differences = deviations(case, inputs)
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(arguments.repeats):
        for form, times in zip(forms, taken, strict=True):
            times.append(milliseconds(form, inputs))
    typical = min if arguments.least else statistics.median
    plain, fast = (typical(times) for times in taken)
    saved = saved_of(case.plain, inputs), saved_of(case.fast, inputs)
    peaks = [peak_of(lambda form=form: run(form, inputs), arguments.device) for form in forms]
    return Row((plain, fast), saved, (peaks[0].above, peaks[1].above), differences)


def line(name: str, shape: str, row: Row) -> str:
    """One line of the table."""
    plain, fast = row.milliseconds
    text = f'{name:<18}{shape:>14}{plain:>10.1f}{fast:>9.1f}{plain / fast:>7.1f}'
    for before, after in (row.saved_mebibytes, row.peak_mebibytes):
        share = f'{after / before:8.0%}' if before else ' ' * 8
        text += f'{before:>11.1f}{after:>10.1f}{share}'
    return text + ''.join(f'{value:>10.1e}' for value in row.deviations)


def summed(rows: list[Row]) -> Row:
    """Return the sums over rows, and their greatest deviations."""

    def pair(function: Any, values: list[tuple[float, float]]) -> tuple[float, float]:
        return function(value[0] for value in values), function(value[1] for value in values)

    return Row(
        pair(sum, [row.milliseconds for row in rows]),
        pair(sum, [row.saved_mebibytes for row in rows]),
        pair(sum, [row.peak_mebibytes for row in rows]),
        pair(max, [row.deviations for row in rows]),
    )


def report(group: Group, arguments: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    """Print a group's rows and their sum; yields every row with its name."""
    print(f'\n{group.title}, forward + backward')
    print(
        f'{"":<18}{"shape":>14}{"plain ms":>10}{"fast ms":>9}{"ratio":>7}'
        + ''.join(f'{f"{what} MiB":>11}{"fast MiB":>10}{"share":>8}' for what in ('saved', 'peak'))
        + f'{"value":>10}{"gradient":>10}'
    )
    rows = []
    for case in group.cases(arguments.quick):
        rows.append(measure(case, arguments))
        print(line(case.name, case.shape, rows[-1]), flush=True)
        yield case.name, rows[-1]
    total = summed(rows)
    print(line('all', '', total))
    met = total.milliseconds[0] / total.milliseconds[1] >= group.faster
    target = f'at least {group.faster:g} times faster'
    if group.memory is not None:
        for plain, fast in (total.saved_mebibytes, total.peak_mebibytes):
            met = met and fast <= group.memory * plain
        target += f', at most {group.memory:.0%} of the memory'
    if not arguments.quick:
        print(f'target: {target}: {"met" if met else "missed"}')


def main() -> int:
    """Read the command line and runs the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--batch', type=int, default=2, help='images')
    parser.add_argument('--repeats', type=int, default=5, help='interleaved runs of each form')
    parser.add_argument('--least', action='store_true', help='least times in place of medians')
    parser.add_argument('--only', choices=list(GROUPS), nargs='+', default=list(GROUPS))
    parser.add_argument('--json', type=Path, help='file for the numbers')
    parser.add_argument('--quick', action='store_true', help='small sizes: only that it runs')
    arguments = parser.parse_args()
    print(
        f'{arguments.device}, batch {arguments.batch}, {torch.get_num_threads()} threads; '
        'value and gradient: largest difference over the largest number'
    )
    rows = [
        dict(group=name, name=case, **asdict(row))
        for name in arguments.only
        for case, row in report(GROUPS[name], arguments)
    ]
    if arguments.json:
        write_outcome(arguments.json, rows)
    agree = all(max(row['deviations']) <= TOLERANCE for row in rows)
    if not agree:
        print('forms differ', file=sys.stderr)
    return 0 if agree else 1


if __name__ == '__main__':
    sys.exit(main())
