"""A linear probe of finished steps: what a new classifier can still tell of the old classes.

A step may lose old classes because its representation has lost them, or because its classifier no
longer says them. The probe tells these apart: the network of the step stands still, a new linear
classifier of its embedding is trained on the images and labels of all steps so far, and tested on
the step's test images. Its scores stand beside the step's own.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor
from torch.utils.data import Subset

from mmseg_cil.contracts import PredictionRule, network_of
from mmseg_cil.datasets.passes import pass_over
from mmseg_cil.datasets.sampler import GlobalPositionSampler
from mmseg_cil.datasets.view import IncrementalDataset
from mmseg_cil.engine.config.length import global_batch_size
from mmseg_cil.engine.data import dataset_of_step
from mmseg_cil.engine.evaluate import outdated_steps, read_step_metrics
from mmseg_cil.engine.record.completeness import check_trained_steps
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.record.verify import check_checkpoint
from mmseg_cil.engine.runner import step_runner
from mmseg_cil.engine.step_configs import evaluation_config
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_images import prepared
from mmseg_cil.models.linear_probe import fit_probe, probed_classifier
from mmseg_cil.models.network_output import run_network
from mmseg_cil.protocols.base import Protocol, Step
from mmseg_cil.registry import DATASETS
from mmseg_cil.utils.harmonic import with_harmonic
from mmseg_cil.utils.values import check_number

#: File of the probe in a work directory.
NAME = 'probe.json'


@dataclass(frozen=True)
class ProbeSettings:
    """The settings of a probe, all of them our choice.

    Attributes:
        iterations: Batches that each probe is trained on.
        lr: Learning rate.
        seed: Seed of the order and the augmentation of the images.

    Raises:
        InputError: A number is out of range.
    """

    iterations: int = 500
    lr: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        check_number('probe', 'iterations', self.iterations, least=1, whole=True)
        check_number('probe', 'lr', self.lr, above=True)
        check_number('probe', 'seed', self.seed, whole=True)


def probe_walk(walk: Walk, journal: Journal, settings: ProbeSettings) -> dict[str, Any]:
    """Probe all finished steps of a walk, and write nothing.

    Args:
        walk: The walk, opened for evaluation.
        journal: Its journal.
        settings: Settings of the probe.

    Returns:
        The content of :data:`NAME`: for each step the means and IoUs of its own network and those
        of the probe, in the form of ``metrics.json``.

    Raises:
        InputError: No step is done, a file of a step is not as the journal records it, the steps
            were evaluated in another way, or the walk cannot be probed.
    """
    steps = [
        record['step']
        for record in journal.content['steps']
        if record['status'] == 'done' and len(walk.protocol.steps[record['step']].seen) > 1
    ]
    if not steps:
        raise InputError(f'{walk.work_dir} has no finished step with two classes or more to probe')
    for reason in outdated_steps(walk, journal).values():
        raise InputError(
            f'{reason}: the scores of the steps would be of another kind than those of the probe; '
            f'evaluate them again with mmseg-cil test {walk.work_dir}'
        )
    check_trained_steps(journal, steps)
    check_labels(walk.protocol)
    return {
        'format': 1,
        'protocol': walk.protocol.name,
        'method': journal.content['method']['name'],
        'settings': {**asdict(settings), 'batch_size': global_batch_size(walk.cfg, 1)},
        'steps': [_probe_step(walk, journal, step, settings) for step in steps],
    }


def _probe_step(walk: Walk, journal: Journal, step: int, settings: ProbeSettings) -> dict[str, Any]:
    own = read_step_metrics(walk.work_dir, step)
    assert own is not None, 'steps without scores were refused'
    path = check_checkpoint(journal, step)
    cfg = evaluation_config(walk, step)
    with tempfile.TemporaryDirectory(prefix='mmseg_cil_') as logs:
        # Logs are no part of the walk, and no visualizer is told the probe's scores.
        cfg.update(work_dir=logs, visualizer=None)
        view, found = _probed(cfg, walk, step, str(path), settings)
    return {
        'step': step,
        'training_images': len(set(view.image_names)),
        'mIoU': with_harmonic(own['mIoU']),
        'IoU': own['IoU'],
        'probe': {'mIoU': found['mIoU'], 'IoU': found['IoU']},
    }


def _probed(
    cfg: Config, walk: Walk, step: int, path: str, settings: ProbeSettings
) -> tuple[IncrementalDataset, dict[str, Any]]:
    """Return the images that a step's probe was trained on, and its scores."""
    with step_runner.step_runner(cfg, 'none') as runner:
        step_runner.load_weights(runner, path)
        model: Any = network_of(runner)
        classifier = probed_classifier(model)
        model.eval()
        view = joint_view(walk, step)
        weight, bias = fit_probe(
            _embeddings(model, walk, view, settings),
            classifier.out_channels,
            settings.iterations,
            settings.lr,
        )
        with torch.no_grad():
            classifier.weight.copy_(weight[:, :, None, None])
            if classifier.bias is not None:
                classifier.bias.copy_(bias)
        # The greatest of the probe's outputs is predicted, whatever the method's rule.
        model._prediction = PredictionRule()
        return view, step_runner.evaluate(runner, has_run=False)


def _embeddings(
    model: Any, walk: Walk, view: IncrementalDataset, settings: ProbeSettings
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the classifier's input and the labels of each batch that the probe is trained on."""
    batch = global_batch_size(walk.cfg, 1)
    sampler = iter(GlobalPositionSampler(view, seed=settings.seed))
    keys = list(itertools.islice(sampler, settings.iterations * batch))
    workers = int(walk.cfg.train_dataloader.get('num_workers') or 0)
    for data in pass_over(Subset(view, keys), workers, batch):
        inputs, labels = prepared(model, data)
        yield run_network(model, inputs).embedding, labels


def joint_view(walk: Walk, step: int) -> IncrementalDataset:
    """Return the training images of all steps up to a step, with the labels of all their classes.

    The view is that of joint training on these classes (or domains), by the walk's setting and
    policy: by class, the images that a step of the walk so far has. Pixels of later classes are
    what they are in training.

    Args:
        walk: The walk.
        step: The step.

    Raises:
        InputError: The images are missing or wrong.
    """
    protocol = joint_protocol(walk.protocol, step)
    config = dataset_of_step(
        walk.cfg, step, 'train', str(walk.work_dir), walk.protocol.pools_splits
    )
    view: IncrementalDataset = DATASETS.build({**config, 'protocol': protocol, 'step': 0})
    view.full_init()
    return view


def joint_protocol(protocol: Protocol, step: int) -> Protocol:
    """Return a protocol of one step with all that the steps up to a step bring.

    Args:
        protocol: The protocol of a walk, whose steps bring no data sets of their own.
        step: The step.
    """
    so_far = protocol.steps[: step + 1]
    last = so_far[-1]
    domains = tuple(name for each in so_far for name in each.domains)
    return replace(protocol, steps=(Step(0, (), last.seen, last.future, domains),))


def check_labels(protocol: Protocol) -> None:
    """Refuse walks whose training images do not show and label the classes of all steps.

    Raises:
        InputError: Steps bring data sets of their own, or the data lack classes.
    """
    if protocol.own_data:
        raise InputError(
            f'{protocol.name}: steps bring data sets of their own, which label their own classes '
            'alone, so there are no images to train a probe of all classes on'
        )
    if not protocol.taxonomy.labels_all(protocol.steps[-1].seen):
        raise InputError(
            f'{protocol.name}: the masks of the training images do not label all classes, so '
            'there are no images to train a probe of all classes on'
        )
