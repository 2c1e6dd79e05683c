"""The heads of a segmentor that classify the classes of a walk, and their classifier layers."""

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

#: Backbones that return the inputs of several branches of their head in training, and the input
#: of one branch in evaluation.
_BRANCHING_BACKBONES = (DDRNet, PIDNet)
#: Key, in the state dict of an encoder-decoder, of the weights of the layer that makes logits.
_CLASSIFIER_WEIGHT = re.compile(r'decode_head\.(\d+\.)?(kernel_generate_head\.)?conv_seg\.weight')


def head_class(config: Mapping[str, Any]) -> type | None:
    """Return the class of a head by its config; None if no registry holds its type."""
    kind = config.get('type')
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    return found if isinstance(found, type) else None


def has_own_target(head: Mapping[str, Any] | nn.Module) -> bool:
    """Return whether an auxiliary head learns a target other than the classes of the data set.

    Heads with such a target are MMSegmentation's ``STDCHead``, whose target is the boundary
    between classes, and every head whose class has a true attribute ``own_target``. These
    heads do not grow, and keep their losses.

    Args:
        head: A head or its config.
    """
    kind = type(head) if isinstance(head, nn.Module) else head_class(head)
    return kind is not None and (
        issubclass(kind, STDCHead) or bool(getattr(kind, 'own_target', False))
    )


def decode_heads(network: nn.Module) -> dict[str, BaseDecodeHead]:
    """Return the decode head, or a cascade's decode heads in order, by name in the network."""
    heads: BaseDecodeHead | nn.ModuleList = network.decode_head
    if isinstance(heads, nn.ModuleList):
        return {f'decode_head.{i}': head for i, head in enumerate(heads)}
    return {'decode_head': heads}


def all_auxiliary_heads(network: nn.Module) -> dict[str, BaseDecodeHead]:
    """Return the auxiliary heads, none or several, by their name in the network."""
    heads: BaseDecodeHead | nn.ModuleList | None = getattr(network, 'auxiliary_head', None)
    if heads is None:
        return {}
    if isinstance(heads, nn.ModuleList):
        return {f'auxiliary_head.{i}': head for i, head in enumerate(heads)}
    return {'auxiliary_head': heads}


def auxiliary_heads(network: nn.Module) -> dict[str, BaseDecodeHead]:
    """Return the auxiliary heads that classify the classes of the data set."""
    return {
        name: head
        for name, head in all_auxiliary_heads(network).items()
        if not has_own_target(head)
    }


def main_head(network: nn.Module) -> tuple[str, BaseDecodeHead]:
    """Return name and module of the head that makes the maps of logits used in distillation.

    In a cascade this is the last head that makes maps. PointRend's second head makes no maps:
    it refines points of the first head's map.
    """
    heads = decode_heads(network)
    maps = [name for name, head in heads.items() if not isinstance(head, PointHead)]
    name = (maps or list(heads))[-1]
    return name, heads[name]


def classifier_holder(head: BaseDecodeHead) -> BaseDecodeHead:
    """Return the module that has ``conv_seg`` and its dropout: the head, or K-Net's first head."""
    return head.kernel_generate_head if isinstance(head, IterativeDecodeHead) else head


def classifier_of(head: BaseDecodeHead) -> nn.Conv2d:
    """Return the convolution whose rows are the classes of a head (see ``check_head``).

    Raises:
        AttributeError: The head has no ``conv_seg``.
    """
    classifier: nn.Conv2d = classifier_holder(head).conv_seg
    return classifier


def main_classifier(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return name and module of the convolution whose rows are the classes of a network."""
    name, head = main_head(network)
    inner = 'kernel_generate_head.' if classifier_holder(head) is not head else ''
    return f'{name}.{inner}conv_seg', classifier_of(head)


def classifier_key(state: Mapping[str, Any]) -> str | None:
    """Return the key of the rows of :func:`main_classifier` in a state dict; None without rows."""
    keys = sorted(key for key in state if _CLASSIFIER_WEIGHT.fullmatch(key))
    return keys[-1] if keys else None


@contextmanager
def returns_as_in_training(network: nn.Module) -> Iterator[None]:
    """Let PIDNet and DDRNet return the outputs of training, with norms in evaluation mode.

    Args:
        network: Network in evaluation mode. With any other backbone it stays as it is.
    """
    parts: list[nn.Module] = []
    if isinstance(network.backbone, _BRANCHING_BACKBONES):
        parts = [network.backbone, *decode_heads(network).values()]
    former = [part.training for part in parts]
    for part in parts:
        # The mode of this module alone is set: ``train()`` would also set the norms' mode.
        part.training = True
    try:
        yield
    finally:
        for part, training in zip(parts, former, strict=True):
            part.training = training


def run_decode_heads(network: nn.Module, features: Features) -> None:
    """Run the decode heads one after the other, up to :func:`main_head`.

    Args:
        network: A plain segmentor, a cascade or not.
        features: Features of the segmentor's backbone and neck.
    """
    last, _ = main_head(network)
    outputs: tuple[Tensor, ...] = ()
    for name, head in decode_heads(network).items():
        outputs = (head.forward(features, *outputs),)
        if name == last:
            break
