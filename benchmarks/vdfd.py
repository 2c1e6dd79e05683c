"""Measure the time that VDFD adds to a training step of the network, and the bytes it stores.

A DeepLabV3 trains on drawn images; drawn gradients stand for those of 1, 5 and 20
earlier steps (time does not depend on their values). The regulariser is timed
alone, forward and backward together, and as the time it adds to a whole step
(forward, backward, SGD), median of interleaved runs. Before that its value and
gradients are compared with the plain statement of the official code, which
expands every gradient to the shape of its weights times the classes.

    python benchmarks/vdfd.py [--device cuda] [--depth 101] [--size 512] [--batch 2]
        [--classes 19] [--steps 1 5 20] [--repeats 5]
        [--rank 4] [--sketches 4 | --conditional] [--adam]

Class-conditional outputs and sketches give a class more outputs than its mean logit; --adam
leaves the penalty undamped, as under AdamW, which the training step still does without.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmseg_cil.methods.vdfd.compression import OutputGradients
from mmseg_cil.methods.vdfd.filters import block_heights, num_rows, order_by_rows
from mmseg_cil.methods.vdfd.parameters import classifier_prefix
from mmseg_cil.methods.vdfd.vdfd_regulariser import VDFDRegulariser
from mmseg_cil.models.plain import plain_model_config
from mmseg_cil.registry import MODELS

#: Step size that the hook would pass on for SGD with a learning rate of 0.001, which damps the
#: penalty.
STEP_SIZE = 2e-3


def build_network(depth: int, classes: int, device: str) -> nn.Module:
    """DeepLabV3 of the configs, with random weights."""
    init_default_scope('mmseg_cil')
    model = Config.fromfile(ROOT / f'configs/_base_/models/deeplabv3_r{depth}-d16.py').model
    network: nn.Module = MODELS.build(plain_model_config(model.to_dict(), classes))
    return network.to(device).train()


def drawn_step(
    network: nn.Module, classes: int, seed: int, rank: int = 1, cells: int = 1
) -> OutputGradients:
    """Gradients as the hook would keep them, with drawn numbers."""
    tensors = {
        name: parameter
        for name, parameter in network.named_parameters()
        if name.startswith(('backbone.', 'decode_head.'))
    }
    classifier = classifier_prefix(network)
    apart = tuple(name for name in tensors if name.startswith(classifier))
    names = order_by_rows(tensors, apart=apart)
    rows = tuple(num_rows(tensors[name]) for name in names)
    blocks = len(block_heights(names, rows, apart))
    draw = torch.Generator().manual_seed(seed)
    drawn = OutputGradients(
        tuple(names),
        rows,
        torch.randn(sum(rows), rank, generator=draw) / sum(rows),
        torch.rand(blocks, rank, generator=draw),
        torch.randn(blocks, rank, classes * cells, generator=draw),
        torch.zeros(classes * cells, dtype=torch.float64),
        tuple((i,) for i in range(classes)),
        cells,
        apart=apart,
    )
    return replace(drawn, projection=drawn.project(tensors))


def regulariser_of(
    network: nn.Module, steps: int, args: argparse.Namespace, cells: int
) -> VDFDRegulariser:
    """Return a regulariser with so many earlier steps, of so many outputs a class."""
    regulariser = VDFDRegulariser()
    regulariser.attach(network)
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    regulariser.to(args.device).set_earlier_steps(
        [drawn_step(network, args.classes, seed, args.rank, cells) for seed in range(steps)],
        network,
        state,
        step_size=0.0 if args.adam else STEP_SIZE,
    )
    return regulariser


def cells_of(args: argparse.Namespace) -> int:
    """Return the outputs of every class."""
    return int(args.classes) if args.conditional else 1 + int(args.sketches)


def plain_changes(network: nn.Module, before: dict[str, Tensor], step: OutputGradients) -> Tensor:
    """Return the changes of the outputs as the official comp_GW computes them."""
    own = dict(network.named_parameters())
    changes = torch.zeros(len(step.projection), device=next(network.parameters()).device)
    parts = step.dense().split(list(step.rows))
    for name, part in zip(step.names, parts, strict=True):
        gradient = part.to(changes)
        shape = (len(gradient), *[1] * (own[name].dim() - 1), len(step.projection))
        moved = (own[name] - before[name]).unsqueeze(-1)
        changes = changes + (gradient.view(shape) * moved).flatten(0, -2).sum(dim=0)
    return changes


def check(network: nn.Module, args: argparse.Namespace) -> tuple[float, float]:
    """Largest relative deviations of changes and gradients from the plain statement."""
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    # The plain form has the size of the weights for each output: two a class must do.
    cells = min(cells_of(args), 2)
    step = drawn_step(network, args.classes, 0, args.rank, cells)
    regulariser = regulariser_of(network, 1, args, cells)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    assert regulariser._earlier is not None
    fast = regulariser._earlier.changes()[0].flatten()
    plain = plain_changes(network, before, step)
    parameters = list(regulariser._earlier.tensors)
    gradients = [
        torch.cat(
            [
                gradient.flatten()
                for gradient in torch.autograd.grad(value.square().sum(), parameters)
            ]
        )
        for value in (fast, plain)
    ]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(before[name])
    fast, plain = fast.detach(), plain.detach()
    return (
        float((fast - plain).abs().max() / plain.abs().max()),
        float((gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max()),
    )


def seconds(run: Callable[[], Any], device: str) -> float:
    """Return the seconds of one run."""
    if device.startswith('cuda'):
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.startswith('cuda'):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def penalty_of(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the loss: the quadratic form, and the log-determinant beside it."""
    return losses['loss_vdfd'] + losses['apart_vdfd']


def main() -> None:
    """Read the command line, checks, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--depth', type=int, default=101, choices=(50, 101))
    parser.add_argument('--size', type=int, default=512)
    parser.add_argument('--batch', type=int, default=2)
    parser.add_argument('--classes', type=int, default=19)
    parser.add_argument('--steps', type=int, nargs='+', default=[1, 5, 20])
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--rank', type=int, default=1)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument('--sketches', type=int, default=0, help='of each class, beside its mean')
    kinds.add_argument('--conditional', action='store_true', help='class-conditional outputs')
    parser.add_argument('--adam', action='store_true', help='without damping')
    args = parser.parse_args()
    torch.manual_seed(0)
    network = build_network(args.depth, args.classes, args.device)
    kept, floats = (
        drawn_step(network, args.classes, 0, args.rank, cells_of(args)),
        sum(parameter.numel() for parameter in network.parameters()),
    )
    print(
        f'DeepLabV3 ResNet-{args.depth}, {args.classes} classes of {cells_of(args)} outputs, '
        f'rank {args.rank}: a step keeps '
        f"{kept.num_floats} floats ({kept.num_floats * 4 / 1e6:.2f} MB) for the network's "
        f'{floats} ({floats * 4 / 1e6:.0f} MB), 1 in {floats / kept.num_floats:.0f}'
    )
    deviations = check(network, args)
    print(
        f'deviation from the plain statement: changes {deviations[0]:.1e}, '
        f'gradients {deviations[1]:.1e}'
    )
    assert max(deviations) < 1e-4, deviations
    measure(network, args)


def measure(network: Any, args: argparse.Namespace) -> None:
    """Print a row for every number of earlier steps."""
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    labels = torch.randint(args.classes, (args.batch, args.size, args.size), device=args.device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9)
    print(
        f'{args.device}, {args.batch} x {args.size} x {args.size}, '
        f'{torch.get_num_threads()} threads; ms'
    )
    print(f'{"earlier":>8}{"step":>10}{"with":>10}{"alone":>9}{"alone/step":>12}{"MB held":>9}')
    for steps in args.steps:
        regulariser = regulariser_of(network, steps, args, cells_of(args))

        def train(extra: VDFDRegulariser | None) -> None:
            optimizer.zero_grad()
            logits = network.encode_decode(images, [dict(img_shape=images.shape[2:])] * args.batch)
            loss = nn.functional.cross_entropy(logits, labels)
            if extra is not None:
                loss = loss + penalty_of(extra(network))
            loss.backward()
            optimizer.step()

        runs: list[Callable[[], Any]] = [
            lambda: train(None),
            lambda extra=regulariser: train(extra),  # type: ignore[misc]
            lambda extra=regulariser: penalty_of(extra(network)).backward(),  # type: ignore[misc]
        ]
        taken: list[list[float]] = [[] for _ in runs]
        for repeat in range(args.repeats + 1):
            for run, times in zip(runs, taken, strict=True):
                spent = seconds(run, args.device)
                if repeat:
                    times.append(1000 * spent)
        plain, together, alone = (statistics.median(times) for times in taken)
        earlier = regulariser._earlier
        assert earlier is not None
        held = (
            sum(tensor.numel() for tensor in (earlier.left, earlier.core, earlier.anchor)) * 4 / 1e6
        )
        print(
            f'{steps:>8}{plain:>10.1f}{together:>10.1f}{alone:>9.1f}{alone / plain:>12.1%}'
            f'{held:>9.1f}'
        )


if __name__ == '__main__':
    main()
