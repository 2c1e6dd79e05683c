"""Training steps of methods as one would write them first, for ``step.py`` and ``memory.py``.

The network, its weights and the factors are those of the method's own segmentor. As in the official
training loops of MiB, PLOP and RCIL, both networks return the logits of all classes at the size of
the labels, every loss reads these logits, maps are pooled as the papers say, and what the networks
returned lives until the end of the iteration.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from loss_forms import enlarged, pseudo_labelled
from map_forms import plain_pod

from mmseg_cil.contracts import NetworkOutput
from mmseg_cil.methods.baselines.reference import knowledge_distillation
from mmseg_cil.methods.mib.reference import unbiased_cross_entropy, unbiased_knowledge_distillation
from mmseg_cil.methods.plop.local_pod import fold_new_classes
from mmseg_cil.methods.rcil.reference import channel_distance, spatial_distance
from mmseg_cil.models.heads import main_head
from mmseg_cil.models.network_output import maps_of, tap_classifier, tap_stages


@dataclass(frozen=True)
class Outputs(NetworkOutput):
    """The outputs of a network, and its logits at the size of the labels.

    Attributes:
        large: ``(N, C, H, W)``.
    """

    large: Tensor = field(kw_only=True)


#: The losses of a method: from segmentor, outputs of student and teacher, and labels, a list.
Losses = Callable[[Any, Outputs, Outputs | None, Tensor], list[Tensor]]


def outputs_of(network: Any, inputs: Tensor, labels: Tensor, stages: bool) -> Outputs:
    """Run a network and return its outputs, with a graph where gradients are on.

    Args:
        network: Segmentor.
        inputs: ``(N, 3, H, W)``, normalised.
        labels: ``(N, H, W)``.
        stages: Keep the backbone's stages before their last activation, too.
    """
    _, head = main_head(network)
    with tap_stages(network.backbone, stages) as maps:
        features = network.extract_feat(inputs)
    with tap_classifier(head) as tap:
        head.forward(features)
    record = tap.output(maps_of(features), head.align_corners, maps)
    return Outputs(**vars(record), large=enlarged(record.logits, labels))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over all pixels, as the methods' losses have it."""
    return functional.cross_entropy(logits, labels, ignore_index=255, reduction='none').mean()


def _growth(student: Outputs, teacher: Outputs) -> float:
    seen = student.logits.shape[1]
    return float((seen / (seen - teacher.logits.shape[1])) ** 0.5)


def finetune(
    network: Any, student: Outputs, teacher: Outputs | None, labels: Tensor
) -> list[Tensor]:
    """Return PyTorch's cross-entropy, as MMSegmentation computes it."""
    return [cross_entropy(student.large, labels)]


def lwf(network: Any, student: Outputs, teacher: Outputs | None, labels: Tensor) -> list[Tensor]:
    """Return cross-entropy and distillation."""
    assert teacher is not None
    large, old = student.large, teacher.large
    return [cross_entropy(large, labels), 100 * knowledge_distillation(large, old).mean()]


def ilt(network: Any, student: Outputs, teacher: Outputs | None, labels: Tensor) -> list[Tensor]:
    """Return LwF's losses and the squared distance of the last stage."""
    assert teacher is not None
    distance = functional.mse_loss(student.features[-1], teacher.features[-1])
    return [*lwf(network, student, teacher, labels), 100 * distance]


def mib(network: Any, student: Outputs, teacher: Outputs | None, labels: Tensor) -> list[Tensor]:
    """Return unbiased cross-entropy and distillation."""
    assert teacher is not None
    weight = network.distillers[0].loss.loss_weight
    large, old = student.large, teacher.large
    return [
        unbiased_cross_entropy(large, labels, old.shape[1]).mean(),
        weight * unbiased_knowledge_distillation(large, old).mean(),
    ]


def plop(network: Any, student: Outputs, teacher: Outputs | None, labels: Tensor) -> list[Tensor]:
    """Return cross-entropy with pseudo-labels, and local POD of stages, embedding and logits."""
    assert teacher is not None
    thresholds = network.decode_head.loss_decode.thresholds
    completed, factors = pseudo_labelled(teacher.large, labels, thresholds)
    loss = functional.cross_entropy(student.large, completed, ignore_index=255, reduction='none')
    (distiller,) = network.distillers
    pairs = [
        *zip(student.pre_activations, teacher.pre_activations, strict=True),
        (student.embedding, teacher.embedding),
        (fold_new_classes(student.logits, teacher.logits.shape[1]), teacher.logits),
    ]
    weights = [distiller.factor] * (len(pairs) - 1) + [distiller.logits_factor]
    growth = _growth(student, teacher) / len(pairs)
    distances = [
        growth * weight * plain_pod(*pair).mean()
        for weight, pair in zip(weights, pairs, strict=True)
    ]
    return [(loss * factors).mean(), *distances]


def rcil(network: Any, student: Outputs, teacher: Outputs | None, labels: Tensor) -> list[Tensor]:
    """Return MiB's losses, and the pooled cube of stages, embedding and logits."""
    assert teacher is not None
    *_, distiller = network.distillers
    pairs = [
        *zip(student.features, teacher.features, strict=True),
        (student.embedding, teacher.embedding),
    ]
    logits = fold_new_classes(student.logits, teacher.logits.shape[1]), teacher.logits
    growth = _growth(student, teacher)
    channels = [distiller.channel_factor] * (len(pairs) - 1) + [distiller.channel_last_factor]
    distances = [
        growth * weight / len(pairs) * channel_distance(*pair).mean()
        for weight, pair in zip(channels, pairs, strict=True)
    ]
    spatial = [distiller.factor] * len(pairs) + [distiller.last_factor]
    pairs.append(logits)
    distances += [
        growth * weight / len(pairs) * spatial_distance(*pair).mean()
        for weight, pair in zip(spatial, pairs, strict=True)
    ]
    return [*mib(network, student, teacher, labels), *distances]


def vdfd(network: Any, student: Outputs, teacher: Outputs | None, labels: Tensor) -> list[Tensor]:
    """Return unbiased cross-entropy, and the penalties of the weights as they are."""
    old = network.step.num_old
    losses = [unbiased_cross_entropy(student.large, labels, old).mean()]
    for part in network.regularisers:
        found = part(network)
        losses += [value for name, value in found.items() if 'loss' in name or 'apart_' in name]
    return losses


#: Plain losses by the names of their methods.
PLAIN: dict[str, Losses] = {
    'finetune': finetune,
    'lwf': lwf,
    'ilt': ilt,
    'mib': mib,
    'plop': plop,
    'rcil': rcil,
    'vdfd': vdfd,
}


def plain_step(name: str, network: Any, optimizer: Any) -> Callable[[dict], dict[str, Tensor]]:
    """Return the plain training step of a method.

    Args:
        name: Key of :data:`PLAIN`.
        network: The method's segmentor, in training mode, which has loaded its teacher.
        optimizer: Optimizer wrapper of MMEngine.
    """
    losses = PLAIN[name]
    stages = name == 'plop'
    teacher: nn.Module | None = network.teacher.network if network.teacher else None

    def step(data: dict) -> dict[str, Tensor]:
        batch = network.data_preprocessor(data, True)
        labels = torch.cat([sample.gt_sem_seg.data for sample in batch['data_samples']]).long()
        with optimizer.optim_context(network):
            old = None
            if teacher is not None:
                with torch.no_grad():
                    old = outputs_of(teacher.to(labels.device), batch['inputs'], labels, stages)
            new = outputs_of(network, batch['inputs'], labels, stages)
            loss = torch.stack(losses(network, new, old, labels)).sum()
        optimizer.update_params(loss)
        return {'loss': loss.detach()}

    return step
