"""Measures the peak memory of one training step of a method, teacher and optimizer included.

    python benchmarks/memory.py [--plain] [--classes 21 151] [--crop 256 512] [--methods mib plop]
        [--model configs/_base_/models/deeplabv3_r50-d16.py] [--batch 2] [--device cuda] [--amp]
        [--resident] [--json FILE] [--quick]

Each method trains the second step of a walk on random images, by forward, backward and optimizer.
Two thirds of the classes, or 16 of 21, are old. "Held" are the weights of student and teacher and
the optimizer's state, "step" is the greatest number of bytes in use beyond them, and "peak" is the
sum. On a GPU PyTorch's allocator counts, on a CPU PyTorch's profiler (``peaks.py``).

``--plain`` measures each method a second time as one would write it first (``plain_steps.py``):
with a plain teacher, and with losses from logits of all classes that are enlarged to the size of
the labels. Both forms begin with the same weights on the same batch, and their losses and
gradients are compared: the columns "loss" and "gradient" have the differences, relative to the
loss and to the norm of the gradient. If they exceed the tolerance, the exit status is 1.

``--resident`` measures each row once more in a process of its own, by the peak of the resident
memory, which includes what PyTorch's allocator does not see (Linux, on a CPU).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from outcome import write_outcome
from peaks import held_by, peak_of, resident_peak
from plain_steps import PLAIN, plain_step
from step import quietly
from step_contestants import optimizer_of
from step_networks import methods_of, network_config, random_batch, segmentor_of, trained_before

#: Largest relative difference of losses, and of gradients by their norm, of the two forms.
TOLERANCE = (1e-5, 1e-3)
#: Methods of the table, by the names of their files.
METHODS = tuple(PLAIN)
#: Settings of glibc that return every freed block of some size to the system at once.
ALLOCATOR = dict(MALLOC_MMAP_THRESHOLD_='65536', MALLOC_TRIM_THRESHOLD_='65536')


@dataclass(frozen=True)
class Setting:
    """A row of the table, without its figures.

    Attributes:
        method: Name of the method's file.
        old: Number of old classes.
        new: Number of new classes.
        crop: Side of the images.
        form: 'plain' or 'fast'.
    """

    method: str
    old: int
    new: int
    crop: int
    form: str


@dataclass
class Measured:
    """The figures of a row, in MiB, and what the two forms are compared by."""

    held: float
    step: float
    left: float
    loss: Tensor
    gradient: Tensor

    @property
    def peak(self) -> float:
        """Held and step."""
        return self.held + self.step


class Trainer:
    """One method with weights, optimizer and batch, ready for a step.

    Args:
        setting: Which.
        arguments: Command line.
        folder: Where the checkpoint of the step before is written.
    """

    def __init__(self, setting: Setting, arguments: argparse.Namespace, folder: Path) -> None:
        classes, device = (setting.old, setting.new), arguments.device
        self.data = random_batch(arguments.batch, setting.crop, classes)
        with quietly():
            model = network_config(arguments.model, setting.crop)
            previous = trained_before(model, setting.old, folder / 'step.pth')
            method = methods_of([setting.method])[setting.method]
            network = segmentor_of(method, model, classes, previous, self.data, device)
        for module in network.modules():
            if hasattr(module, 'set_thresholds'):
                # Every second class is always sure and the others never: rounding decides nothing.
                sure = torch.arange(sum(classes), device=device) % 2
                module.set_thresholds(2.0 * sure)
        network.train()
        teacher = [network.teacher.network.to(device)] if network.teacher else []
        self.parts = [network, *teacher]
        self.optimizer = optimizer_of(network, arguments.amp)
        self.step = (
            plain_step(setting.method, network, self.optimizer)
            if setting.form == 'plain'
            else lambda data: network.train_step(data, self.optimizer)
        )
        self.weights = [
            parameter for group in self.optimizer.param_groups for parameter in group['params']
        ]
        for parameter in self.weights:
            # The state is there from the second iteration on.
            self.optimizer.optimizer.state[parameter]['momentum_buffer'] = torch.zeros_like(
                parameter
            )

    def run(self) -> None:
        """Train for one iteration and keep the total of the losses."""
        torch.manual_seed(3)
        for module in self.parts[0].modules():
            if hasattr(module, 'set_iteration_seed'):
                module.set_iteration_seed(0)
        losses = self.step(self.data)
        parts = [value for name, value in losses.items() if name == 'loss' or 'apart_' in name]
        self.total = torch.stack([part.detach() for part in parts]).sum().cpu()

    def gradient(self) -> Tensor:
        """Return what the optimizer received, for all weights: after one step its momentum."""
        state = self.optimizer.optimizer.state
        return torch.cat([state[weight]['momentum_buffer'].flatten() for weight in self.weights])


def measured(setting: Setting, arguments: argparse.Namespace) -> Measured:
    """Measure one step, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(setting, arguments, Path(folder))
        held = held_by(trainer.parts, trainer.optimizer.optimizer)
        peak = peak_of(trainer.run, arguments.device)
        return Measured(held, peak.above, peak.left, trainer.total, trainer.gradient().cpu())


def resident_of(setting: Setting, arguments: argparse.Namespace) -> float:
    """Measure one step by the resident memory of a process of its own, in MiB.

    Raises:
        RuntimeError: The process has failed.
    """
    own = ['--device', 'cpu', '--model', str(arguments.model), '--batch', str(arguments.batch)]
    own += ['--row', json.dumps(asdict(setting)), *(['--amp'] if arguments.amp else [])]
    done = subprocess.run(
        [sys.executable, __file__, *own],
        env={**os.environ, **ALLOCATOR},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f'{setting}:\n{done.stderr[-3000:]}')
    return float(done.stdout.split()[-1])


def differences(fast: Measured, plain: Measured) -> tuple[float, float]:
    """Return the relative differences of loss and gradient."""
    change, norm = (
        torch.linalg.vector_norm(vector, dtype=torch.float64)
        for vector in (fast.gradient - plain.gradient, plain.gradient)
    )
    loss = abs(float(fast.loss - plain.loss)) / abs(float(plain.loss))
    return loss, float(change / norm)


def parts_of(arguments: argparse.Namespace) -> Iterator[tuple[int, int, int]]:
    """Yield old classes, new classes and crop of every part of the table."""
    for count in arguments.classes:
        old = 16 if count == 21 else max(1, round(count * 2 / 3))
        for crop in arguments.crop:
            yield old, count - old, crop


def row_of(method: str, part: tuple[int, int, int], arguments: argparse.Namespace) -> dict:
    """Measure a method in its forms; return the figures of its row."""
    forms = ('fast', 'plain') if arguments.plain else ('fast',)
    settings = {form: Setting(method, *part, form) for form in forms}
    found = {form: measured(setting, arguments) for form, setting in settings.items()}
    row: dict[str, Any] = dict(name=method, old=part[0], new=part[1], crop=part[2])
    for form, result in found.items():
        row |= {f'{form}_step_mebibytes': result.step, f'{form}_peak_mebibytes': result.peak}
    row['held_mebibytes'] = found['fast'].held
    if arguments.plain:
        row['difference_of_loss'], row['difference_of_gradient'] = differences(**found)
    if arguments.resident:
        row |= {
            f'{form}_resident_mebibytes': resident_of(setting, arguments)
            for form, setting in settings.items()
        }
    return row


def line(row: dict[str, Any], first: dict[str, Any]) -> str:
    """Return a line of the table; ``first`` is the row that peaks are relative to."""
    peak = row['fast_peak_mebibytes']
    text = f'{row["name"]:<12}{row["held_mebibytes"]:>9.0f}{row["fast_step_mebibytes"]:>9.0f}'
    text += f'{peak:>9.0f}{peak / first["fast_peak_mebibytes"]:>8.2f}'
    if 'plain_peak_mebibytes' in row:
        plain = row['plain_peak_mebibytes']
        text += f'{row["plain_step_mebibytes"]:>12.0f}{plain:>9.0f}{peak / plain:>8.0%}'
        text += f'{row["difference_of_loss"]:>10.1e}{row["difference_of_gradient"]:>10.1e}'
    for form in ('fast', 'plain'):
        if f'{form}_resident_mebibytes' in row:
            text += f'{row[f"{form}_resident_mebibytes"]:>10.0f}'
    return text


def heading(part: tuple[int, int, int], arguments: argparse.Namespace) -> str:
    """Return what stands above a part of the table."""
    old, new, crop = part
    text = f'\n{old} + {new} classes, crop {crop}, MiB\n'
    text += f'{"":<12}{"held":>9}{"step":>9}{"peak":>9}{"ratio":>8}'
    if arguments.plain:
        text += f'{"plain step":>12}{"peak":>9}{"share":>8}{"loss":>10}{"gradient":>10}'
    if arguments.resident:
        text += f'{"resident":>10}' + (f'{"plain":>10}' if arguments.plain else '')
    return text


def table(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all rows, print them, and return them."""
    rows: list[dict[str, Any]] = []
    for part in parts_of(arguments):
        print(heading(part, arguments))
        of_part: list[dict[str, Any]] = []
        for method in arguments.methods:
            of_part.append(row_of(method, part, arguments))
            gc.collect()
            print(line(of_part[-1], of_part[0]), flush=True)
        rows += of_part
    return rows


def equal(rows: list[dict[str, Any]]) -> bool:
    """Return whether losses and gradients of both forms are the same within the tolerance."""
    return all(
        row['difference_of_loss'] <= TOLERANCE[0] and row['difference_of_gradient'] <= TOLERANCE[1]
        for row in rows
    )


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--model', type=Path, help='default: deeplabv3_r50-d16')
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--crop', type=int, nargs='+', default=[512])
    parser.add_argument('--classes', type=int, nargs='+', default=[151], help='in all')
    parser.add_argument('--methods', nargs='+', choices=list(METHODS), default=list(METHODS))
    parser.add_argument('--plain', action='store_true', help='plain forms, too')
    parser.add_argument('--resident', action='store_true', help='resident memory, too')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--json', type=Path, help='file for the numbers')
    parser.add_argument('--quick', action='store_true', help='a thin network: only that it runs')
    parser.add_argument('--row', type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.crop, arguments.classes = [32], [5]
    arguments.model = arguments.model or ROOT / 'configs/_base_/models' / (
        'fcn_r18-thin.py' if arguments.quick else 'deeplabv3_r50-d16.py'
    )
    if arguments.resident and arguments.device != 'cpu':
        parser.error('--resident is for --device cpu: on a GPU the allocator tells all')
    if arguments.batch < 2:
        parser.error('--batch must be at least 2: batch norm over pooled images needs two')
    if min(arguments.classes) < 3:
        parser.error('--classes must be at least 3: background, an old and a new class')
    return arguments


def main() -> int:
    """Read the command line and run the benchmark."""
    arguments = parsed()
    init_default_scope('mmseg_cil')
    if arguments.row:
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(Setting(**arguments.row), arguments, Path(folder))
            print(resident_peak(trainer.run))
        return 0
    print(
        f'{arguments.device}, {arguments.model.stem}, batch {arguments.batch}'
        f'{", mixed precision" if arguments.amp else ""}, {torch.get_num_threads()} threads'
    )
    rows = table(arguments)
    if arguments.json:
        write_outcome(arguments.json, rows)
    # In mixed precision the formats of the two forms' intermediate numbers differ.
    if arguments.plain and not arguments.amp and not equal(rows):
        print('forms differ', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
