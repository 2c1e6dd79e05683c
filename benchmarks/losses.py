"""Measures the fast form of each loss against the plain statement of its formula.

Both forms run in this process on the same tensors; their values and gradients
are compared before anything is timed. Each time is the median of interleaved
runs, forward and backward together.

    python benchmarks/losses.py [--device cuda] [--batch 2] [--repeats 5]

Local POD works on the maps of a DeepLabV3 with ResNet-101, output stride 16,
and a crop of 512 x 512: four stages, the ASPP output, and the logits.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg_cil.losses.local_pod import local_pod, local_pod_distance

#: Name, channels and side of every map that POD compares.
POD_MAPS = (('stage 1', 256, 128), ('stage 2', 512, 64), ('stage 3', 1024, 32),
            ('stage 4', 2048, 32), ('embedding', 256, 32), ('logits', 16, 32))

Form = Callable[[Tensor, Tensor], Tensor]


def plain_pod(student: Tensor, teacher: Tensor) -> Tensor:
    """The formula as it is written: two embeddings and the norm of their difference."""
    return (local_pod(student**2) - local_pod(teacher**2)).norm(dim=1)


def run(form: Form, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of a form."""
    value = form(student, teacher)
    gradient, = torch.autograd.grad(value.mean(), student)
    return value.detach(), gradient


def deviation(actual: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected value."""
    return float((actual - expected).abs().max() / expected.abs().max())


def timed(form: Form, student: Tensor, teacher: Tensor) -> float:
    """Milliseconds of one run."""
    if student.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    run(form, student, teacher)
    if student.is_cuda:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def peak_memory(form: Form, student: Tensor, teacher: Tensor) -> float:
    """MiB that one run needs at most beyond its inputs (GPU only)."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run(form, student, teacher)
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def benchmark_local_pod(device: str, batch: int, repeats: int) -> None:
    """Prints times, their ratio and the largest deviations, for every map and in all."""
    totals = [0.0, 0.0]
    print(f'local POD, forward + backward, {device}, batch {batch}, '
          f'{torch.get_num_threads()} threads')
    print(f'{"map":<10}{"shape":>16}{"plain ms":>10}{"fast ms":>10}{"ratio":>7}'
          f'{"value dev":>11}{"grad dev":>11}{"plain MiB":>11}{"fast MiB":>10}')
    for name, channels, side in POD_MAPS:
        torch.manual_seed(0)
        teacher = torch.randn(batch, channels, side, side, device=device)
        student = (teacher + 0.3 * torch.randn_like(teacher)).requires_grad_()
        value, gradient = run(plain_pod, student, teacher)
        fast_value, fast_gradient = run(local_pod_distance, student, teacher)
        deviations = [deviation(fast_value, value), deviation(fast_gradient, gradient)]
        assert max(deviations) < 1e-5, f'{name}: the forms differ by {deviations}'
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(repeats):
            for form, taken in zip((plain_pod, local_pod_distance), times, strict=True):
                taken.append(timed(form, student, teacher))
        plain, fast = (statistics.median(taken) for taken in times)
        totals[0] += plain
        totals[1] += fast
        memory = ''
        if device.startswith('cuda'):
            memory = ''.join(f'{peak_memory(form, student, teacher):>11.0f}'
                             for form in (plain_pod, local_pod_distance))
        print(f'{name:<10}{f"{channels}x{side}x{side}":>16}{plain:>10.2f}{fast:>10.2f}'
              f'{plain / fast:>7.1f}{deviations[0]:>11.1e}{deviations[1]:>11.1e}{memory}')
    print(f'{"all maps":<26}{totals[0]:>10.2f}{totals[1]:>10.2f}{totals[0] / totals[1]:>7.1f}')


def main() -> None:
    """Reads the command line and runs every benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--repeats', type=int, default=5)
    arguments = parser.parse_args()
    benchmark_local_pod(arguments.device, arguments.batch, arguments.repeats)


if __name__ == '__main__':
    main()
