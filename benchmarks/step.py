"""Measures a whole training step of every method against plain fine-tuning.

    python benchmarks/step.py [--device cuda] [--model configs/_base_/models/deeplabv3_r101-d16.py]
        [--batch 6] [--crop 512] [--classes 16 5] [--tasks 1] [--amp] [--methods mib plop]
        [--snapshots 1 2 5] [--repeats 10] [--quick]

Every method of ``configs/_base_/methods`` trains the second step of a walk, or
that after ``--tasks`` others, on random images, as MMEngine does it:
preprocessing, forward, backward, optimizer. A method that learns from the
snapshots of all earlier steps has a row for each number in ``--snapshots``.
Beside them run, interleaved with them in this process,

* "fine-tuning": MMSegmentation's own ``EncoderDecoder`` with cross-entropy, the
  network and the number of classes being the same;
* "limit": that and one run of a teacher without gradients: what a method that
  learns from a teacher costs at least.

Printed are the median times, their ratios to fine-tuning, and memory: on a GPU
the peak of a step with weights, optimizer and teacher, on a CPU what autograd
saves. First it is checked that our segmentor without a method is fine-tuning
bit by bit; otherwise it exits with 1. Methods that consist of the same parts
(fine-tuning, joint training) run once. Targets hold on a GPU, at the default size.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmseg_cil.distillers
import mmseg_cil.hooks
import mmseg_cil.losses
import mmseg_cil.models
import mmseg_cil.regularisers  # noqa: F401  (registers what configs name)
from mmseg_cil.engine.step_config import StepInputs, model_of_step, reads_all_teachers
from mmseg_cil.models.network_output import run_network
from mmseg_cil.models.plain import plain_model_config, plain_state_dict, replace_value
from mmseg_cil.models.teachers import step_teacher_name
from mmseg_cil.registry import HOOKS, MODELS

METHODS = ROOT / 'configs/_base_/methods'
#: Ratio to fine-tuning that a method's step should stay below on a GPU.
TARGETS = {'mib': 1.4, 'lwf': 1.4, 'ilt': 1.4, 'plop': 1.5, 'rcil': 2.2}


@dataclass
class Contestant:
    """Something whose step is timed.

    Attributes:
        name: For the table.
        step: Runs one training step and returns the losses.
        parts: Modules whose weights it needs.
    """

    name: str
    step: Callable[[dict], dict[str, Tensor]]
    parts: list[nn.Module]


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


# Networks and data.


def random_batch(batch: int, crop: int, classes: tuple[int, int]) -> dict[str, Any]:
    """Images of noise as a data loader gives them; labels: background, new classes, ignored."""
    old, new = classes
    generator = torch.Generator().manual_seed(0)
    images, samples = [], []
    for _ in range(batch):
        images.append(torch.randint(0, 256, (3, crop, crop), generator=generator).byte())
        labels = torch.randint(old, old + new, (1, crop, crop), generator=generator)
        labels[:, :crop // 2] = 0
        labels[:, :crop // 32] = 255
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        sample.set_metainfo(dict(img_shape=(crop, crop), ori_shape=(crop, crop)))
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def network_config(path: Path, crop: int) -> dict[str, Any]:
    """A model config without pre-trained weights, for crops of one size."""
    model = Config.fromfile(path).model.to_dict()
    model['data_preprocessor']['size'] = (crop, crop)
    for part in (model, model['backbone']):
        part.pop('pretrained', None)
        part.pop('init_cfg', None)
    plain: dict[str, Any] = replace_value(model, 'SyncBN', 'BN')
    return plain


def trained_before(model: dict[str, Any], num_classes: int, path: Path) -> dict[str, Any]:
    """Saves a network of an earlier step, to start from and to learn from."""
    torch.manual_seed(0)
    network = MODELS.build(plain_model_config(model, num_classes))
    network.init_weights()
    torch.save(dict(state_dict=plain_state_dict(network.state_dict())), path)
    return dict(checkpoint=str(path), num_classes=num_classes)


def step_context(classes: tuple[int, int], tasks: int = 1) -> dict[str, Any]:
    """Plain form of the step after ``tasks`` others, all but the first of one class each."""
    old = [0] * (classes[0] - tasks + 1) + list(range(1, tasks))
    return dict(index=tasks, class_steps=old + [tasks] * classes[1], has_background=True,
                old_labels_hidden=True)


def leave_sub_steps(config: dict[str, Any], method: dict[str, Any], model: dict[str, Any],
                    classes: tuple[int, int], folder: Path) -> None:
    """Puts what a method's sub-steps would leave into a segmentor's config: untrained networks."""
    for one in method.get('sub_steps') or ():
        if one['type'] == 'NewDataSubStep':
            teacher = trained_before(model, 1 + classes[1], folder / 'new_data.pth')
            config['teachers'] = {**config['teachers'], 'new_data': teacher}
        if one['type'] == 'GeneratorSubStep':
            generator = dict(type='LayoutGenerator', num_classes=classes[0],
                             size=model['data_preprocessor']['size'])
            state = MODELS.build(generator).state_dict()
            torch.save(dict(state_dict=state), folder / 'generator.pth')
            config['replay'] = dict(type='GeneratedReplay', has_background=True,
                                    checkpoint=str(folder / 'generator.pth'),
                                    generator=generator, **one.get('replay', {}))


def network_before(model: dict[str, Any], num_classes: int, previous: dict[str, Any],
                   device: str) -> Any:
    """The segmentor as the step before left it."""
    context = dict(index=0, class_steps=[0] * num_classes, has_background=True,
                   old_labels_hidden=True)
    network = MODELS.build(model_of_step(
        copy.deepcopy(model), dict(name='none'), context, StepInputs(previous, None, [1])))
    network.init_weights()
    return network.to(device)


def segmentor_of(method: dict[str, Any], model: dict[str, Any], classes: tuple[int, int],
                 previous: dict[str, Any], data: dict, device: str = 'cpu', tasks: int = 1,
                 earlier: Sequence[dict[str, Any]] = ()) -> Any:
    """The segmentor of a method at its second step, or after ``tasks`` steps, ready to train.

    What the method's hooks would find out before training is put in: thresholds
    of pseudo-labels, and the gradients of earlier outputs, here those of a batch.
    Snapshots of all earlier steps are ``earlier`` and ``previous``.
    """
    context = step_context(classes, tasks)
    torch.manual_seed(1)
    snapshots = [*earlier, previous][-tasks:] if reads_all_teachers(method) else []
    teachers = {step_teacher_name(tasks - len(snapshots) + place): one
                for place, one in enumerate(snapshots)}
    inputs = StepInputs(previous, previous, [1] * (tasks + 1), teachers=teachers)
    config = model_of_step(copy.deepcopy(model), method, context, inputs)
    leave_sub_steps(config, method, model, classes, Path(previous['checkpoint']).parent)
    segmentor = MODELS.build(config)
    segmentor.init_weights()
    segmentor.to(device)
    for one in segmentor.modules():
        if hasattr(one, 'set_thresholds'):
            # Half of the largest uncertainty that PLOP's scale has.
            one.set_thresholds(torch.full(
                (sum(classes), ), 0.5 / classes[0], device=device))
    takers = [one for one in segmentor.regularisers
              if hasattr(one, 'set_earlier_steps')]
    hooks = [HOOKS.build(one) for one in method.get('custom_hooks', ())]
    before_it = network_before(model, classes[0], previous, device) if takers else None
    for hook in (one for one in hooks if takers and hasattr(one, 'keep')):
        nodes = tuple((index, ) for index in range(classes[0]))
        gradients = hook.keep(before_it, [data], nodes)
        for one in takers:
            one.set_earlier_steps([gradients], segmentor, segmentor.previous_state())
    return segmentor


def parts_of(method: dict[str, Any]) -> dict[str, Any]:
    """What of a method a training step has; pruning comes after the step."""
    parts = {key: value for key, value in method.items()
             if key not in ('name', 'protocol_overrides')}
    parts['sub_steps'] = [one for one in method.get('sub_steps') or ()
                          if one['type'] != 'PruneSnapshot']
    return parts


def methods_of(names: list[str] | None) -> dict[str, dict[str, Any]]:
    """Methods by the name of their file; of those that consist of the same parts the first."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(METHODS.glob('*.py')):
        method = Config.fromfile(path).method.to_dict()
        known = [parts_of(one) for one in found.values()]
        if parts_of(method) not in known and (names is None or path.stem in names):
            found[path.stem] = method
    return found


# Contestants.


def optimizer_of(network: nn.Module, amp: bool) -> OptimWrapper:
    """SGD as the official scripts have it."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, nesterov=True,
                                weight_decay=1e-4)
    return AmpOptimWrapper(optimizer=optimizer) if amp else OptimWrapper(optimizer)


def training(name: str, network: nn.Module, amp: bool) -> Contestant:
    """A network that trains as MMEngine trains it."""
    network.train()
    optimizer = optimizer_of(network, amp)
    teachers = getattr(network, 'teachers', None)
    parts = [network, *(one.network for one in (teachers.networks if teachers else ()))]
    drawing = [one for one in network.modules() if hasattr(one, 'set_iteration_seed')]
    seeds = itertools.count()

    def step(data: dict) -> dict[str, Tensor]:
        seed = next(seeds)
        for one in drawing:
            one.set_iteration_seed(seed)  # type: ignore[operator]
        losses: dict[str, Tensor] = network.train_step(data, optimizer)  # type: ignore[operator]
        return losses

    return Contestant(name, step, parts)


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


def is_fine_tuning(ours: nn.Module, plain: nn.Module, data: dict) -> bool:
    """Whether losses and gradients of our segmentor without a method are MMSegmentation's."""
    results: list[list[Tensor]] = []
    for network in (ours.train(), plain.train()):
        torch.manual_seed(2)
        batch = network.data_preprocessor(data, True)  # type: ignore[operator]
        losses = network.loss(**batch)  # type: ignore[operator]
        losses = [value for name, value in losses.items() if 'loss' in name]
        gradients = torch.autograd.grad(sum(losses), list(network.parameters()))
        results.append([*losses, *gradients])
    return all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def contestants(arguments: argparse.Namespace, folder: Path, data: dict) -> list[Contestant]:
    """Fine-tuning, the limit, and every method.

    Raises:
        AssertionError: Our segmentor without a method is not fine-tuning.
    """
    classes, amp, device = tuple(arguments.classes), arguments.amp, arguments.device
    model = network_config(arguments.model, arguments.crop)
    previous = trained_before(model, classes[0], folder / 'step.pth')
    ours = segmentor_of(dict(name='none'), model, classes, previous, data, device)
    plain, again = (MODELS.build(plain_model_config(model, sum(classes))).to(device)
                    for _ in range(2))
    for network in (plain, again):
        network.load_state_dict(ours.state_dict())
    assert is_fine_tuning(ours, plain, data), 'our segmentor without a method is not fine-tuning'
    teacher = MODELS.build(plain_model_config(model, classes[0])).to(device)
    found = [training('fine-tuning', plain, amp), with_teacher(again, teacher, amp)]
    for name, method in methods_of(arguments.methods).items():
        counts = arguments.snapshots if reads_all_teachers(method) else [arguments.tasks]
        for count in counts or [arguments.tasks]:
            earlier = [trained_before(model, classes[0] - left, folder / f'{left}_before.pth')
                       for left in range(count - 1, 0, -1)]
            segmentor = segmentor_of(
                method, model, classes, previous, data, device, count, earlier)
            label = f'{name}, {count}' if len(counts or ()) > 1 else name
            found.append(training(label, segmentor, amp))
    return found


# Measuring.


def seconds(contestant: Contestant, data: dict, device: str) -> float:
    """Of one step."""
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
    weights = sum(one.nbytes * (2 if one.requires_grad else 1)  # and its momentum
                  for part in contestant.parts for one in part.parameters())
    return (torch.cuda.max_memory_allocated() - before + weights) / 2**20


def verdict(name: str, ratio: float) -> str:
    """Whether a method's target is met."""
    target = TARGETS.get(name)
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
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    memory = {row.name: mebibytes(row, data, device) for row in rows}
    on_gpu = device.startswith('cuda')
    print(f'{"":<16}{"ms":>10}{"ratio":>8}{"to limit":>10}'
          f'{"peak MiB" if on_gpu else "saved MiB":>11}{"ratio":>8}  target')
    for name in medians:
        ratio = medians[name] / medians['fine-tuning']
        print(f'{name:<16}{1000 * medians[name]:>10.1f}{ratio:>8.2f}'
              f'{medians[name] / medians["limit"]:>10.2f}{memory[name]:>11.0f}'
              f'{memory[name] / memory["fine-tuning"]:>8.2f}  '
              f'{verdict(name, ratio) if on_gpu else ""}')


def main() -> int:
    """Reads the command line and runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--model', type=Path,
                        default=ROOT / 'configs/_base_/models/deeplabv3_r101-d16.py')
    parser.add_argument('--batch', type=int, default=6)
    parser.add_argument('--crop', type=int, default=512)
    parser.add_argument('--classes', type=int, nargs=2, default=(16, 5), metavar=('OLD', 'NEW'))
    parser.add_argument('--tasks', type=int, default=1,
                        help='earlier steps; all but the first brought one class each')
    parser.add_argument('--snapshots', type=int, nargs='+', metavar='N',
                        help='for methods that learn from all earlier steps; default: --tasks')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--methods', nargs='+', help='file names in configs/_base_/methods')
    parser.add_argument('--repeats', type=int, default=10)
    parser.add_argument('--warm-up', type=int, default=2)
    parser.add_argument('--quick', action='store_true', help='a thin network: only that it runs')
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.model = ROOT / 'configs/_base_/models/fcn_r18-thin.py'
        arguments.batch, arguments.crop, arguments.repeats, arguments.warm_up = 2, 32, 1, 0
    for count in (arguments.tasks, *(arguments.snapshots or ())):
        if not 1 <= count <= arguments.classes[0]:
            parser.error('--tasks and --snapshots must be between 1 and the number of old classes')
    if arguments.batch < 2:
        parser.error('--batch must be at least 2: batch norm over pooled images needs two')
    init_default_scope('mmseg_cil')
    print(f'{arguments.device}, {arguments.model.stem}, batch {arguments.batch}, '
          f'crop {arguments.crop}, {arguments.classes[0]} + {arguments.classes[1]} classes'
          f'{", mixed precision" if arguments.amp else ""}, {torch.get_num_threads()} threads')
    data = random_batch(arguments.batch, arguments.crop, tuple(arguments.classes))
    with tempfile.TemporaryDirectory() as folder, quietly():
        rows = contestants(arguments, Path(folder), data)
    report(rows, data, arguments)
    return 0


if __name__ == '__main__':
    sys.exit(main())
