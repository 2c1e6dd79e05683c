"""The heads of a segmentor: which of them classify the classes of a walk, and with which layer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmseg.models.backbones import DDRNet, PIDNet
from mmseg.models.decode_heads import IterativeDecodeHead, PointHead, STDCHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmseg_cil.contracts import Features
from mmseg_cil.registry import MODELS

#: Backbones that return in training the inputs of several branches of their head, and in
#: evaluation that of one.
_BRANCHING_BACKBONES = (DDRNet, PIDNet)
#: The weights of the layer that makes the logits of an encoder-decoder, in its state dict.
_CLASSIFIER_WEIGHT = re.compile(r'decode_head\.(\d+\.)?(kernel_generate_head\.)?conv_seg\.weight')


def head_class(config: Mapping[str, Any]) -> type | None:
    """The class of a head by its config; None where no registry holds its type."""
    kind = config.get('type')
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    return found if isinstance(found, type) else None


def has_own_target(head: Mapping[str, Any] | nn.Module) -> bool:
    """Whether an auxiliary head learns something other than the classes of the data set.

    Such are MMSegmentation's ``STDCHead``, whose target is the boundary between
    classes, and every head whose class has a true attribute ``own_target``. They do
    not grow, and keep their losses.

    Args:
        head: A head or its config.
    """
    kind = type(head) if isinstance(head, nn.Module) else head_class(head)
    return kind is not None and (
        issubclass(kind, STDCHead) or bool(getattr(kind, 'own_target', False))
    )


def decode_heads(network: nn.Module) -> dict[str, BaseDecodeHead]:
    """The decode head, or those of a cascade in their order, by their name in the network."""
    heads: BaseDecodeHead | nn.ModuleList = network.decode_head
    if isinstance(heads, nn.ModuleList):
        return {f'decode_head.{i}': head for i, head in enumerate(heads)}
    return {'decode_head': heads}


def all_auxiliary_heads(network: nn.Module) -> dict[str, BaseDecodeHead]:
    """The auxiliary heads, none or several, by their name in the network."""
    heads: BaseDecodeHead | nn.ModuleList | None = getattr(network, 'auxiliary_head', None)
    if heads is None:
        return {}
    if isinstance(heads, nn.ModuleList):
        return {f'auxiliary_head.{i}': head for i, head in enumerate(heads)}
    return {'auxiliary_head': heads}


def auxiliary_heads(network: nn.Module) -> dict[str, BaseDecodeHead]:
    """Those auxiliary heads that classify the classes of the data set."""
    return {
        name: head
        for name, head in all_auxiliary_heads(network).items()
        if not has_own_target(head)
    }


def main_head(network: nn.Module) -> tuple[str, BaseDecodeHead]:
    """Name and module of the head that makes the maps of logits that teachers hand on.

    In a cascade that is the last head that has such maps. PointRend's second head
    refines points of the first one's.
    """
    heads = decode_heads(network)
    maps = [name for name, head in heads.items() if not isinstance(head, PointHead)]
    name = (maps or list(heads))[-1]
    return name, heads[name]


def classifier_holder(head: BaseDecodeHead) -> BaseDecodeHead:
    """The module that has ``conv_seg`` and the dropout before it: the head, or K-Net's first."""
    return head.kernel_generate_head if isinstance(head, IterativeDecodeHead) else head


def classifier_of(head: BaseDecodeHead) -> nn.Conv2d:
    """The convolution whose rows are the classes of a head, which has been checked to have one.

    Raises:
        AttributeError: It has none.
    """
    classifier: nn.Conv2d = classifier_holder(head).conv_seg
    return classifier


def main_classifier(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """Name and module of the convolution whose rows are the classes of a network."""
    name, head = main_head(network)
    inner = 'kernel_generate_head.' if classifier_holder(head) is not head else ''
    return f'{name}.{inner}conv_seg', classifier_of(head)


def classifier_key(state: Mapping[str, Any]) -> str | None:
    """The key of the rows of :func:`main_classifier` in a state dict; None where there are none."""
    keys = sorted(key for key in state if _CLASSIFIER_WEIGHT.fullmatch(key))
    return keys[-1] if keys else None


@contextmanager
def returns_as_in_training(network: nn.Module) -> Iterator[None]:
    """Lets PIDNet and DDRNet return what they return in training, with norms in evaluation.

    Args:
        network: In evaluation mode. One with another backbone is left as it is.
    """
    parts: list[nn.Module] = []
    if isinstance(network.backbone, _BRANCHING_BACKBONES):
        parts = [network.backbone, *decode_heads(network).values()]
    former = [part.training for part in parts]
    for part in parts:
        # Of this module alone: ``train()`` would reach the norms.
        part.training = True
    try:
        yield
    finally:
        for part, training in zip(parts, former, strict=True):
            part.training = training


def run_decode_heads(network: nn.Module, features: Features) -> None:
    """Runs the decode heads one after the other, up to the one that makes the maps of logits.

    Args:
        network: A plain segmentor, a cascade or not.
        features: Features of its backbone and neck.
    """
    last, _ = main_head(network)
    outputs: tuple[Tensor, ...] = ()
    for name, head in decode_heads(network).items():
        outputs = (head.forward(features, *outputs),)
        if name == last:
            break
