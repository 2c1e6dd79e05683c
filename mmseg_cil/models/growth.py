"""Growth of the weights of a network by the classes of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmseg.models.decode_heads import PointHead
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mmseg_cil.contracts import ClassifierInit
from mmseg_cil.errors import InputError
from mmseg_cil.models.plain import with_classes
from mmseg_cil.registry import MODELS


def grow_state(
    state: dict[str, Tensor], heads: Mapping[str, nn.Module], num_old: int, grow: ClassifierInit
) -> None:
    """Add the rows of new classes to the weights of a network's heads, in place.

    Every convolution and linear layer whose rows are the classes grows: the
    classifier, and further layers such as those of ``DAHead``'s two branches, the
    presence of classes of ``EncHead`` and the points of ``PointHead``. ``PointHead`` also
    reads the logits of the head before it; the weights of these new inputs begin at zero
    (our choice), so that the scores of old classes begin as they were. Weights that differ
    in any other way stay as they are.

    Args:
        state: Weights before the step, on the CPU.
        heads: Heads by their prefix in the state dict, freshly initialised for all classes.
        num_old: Number of classes before the step.
        grow: Initialisation of the rows of new classes.
    """
    for prefix, head in heads.items():
        for name, layer in head.named_modules(prefix=prefix):
            if isinstance(layer, (nn.Linear, _ConvNd)) and f'{name}.weight' in state:
                if isinstance(head, PointHead):
                    _grow_inputs(state, f'{name}.weight', layer.weight)
                _grow_rows(state, name, layer, num_old, grow)


class OldRows(ClassifierInit):
    """An initialisation that gives the old rows of another, if they follow from old rows alone.

    The other initialisation is called twice, with new rows of zeros and of ones, and must give
    equal old rows.

    Args:
        grow: The initialisation.
    """

    def __init__(self, grow: ClassifierInit) -> None:
        self.grow = grow

    def of_layer(self, name: str) -> ClassifierInit:
        """Return the old rows of the other initialisation for one layer."""
        return OldRows(self.grow.of_layer(name))

    def __call__(
        self, weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the rows of all classes; those of new classes are meaningless.

        Raises:
            InputError: Old rows depend on chance or on the new rows.
        """
        with torch.random.fork_rng(devices=[]):
            tries = [
                self.grow(
                    weight.clone(),
                    bias.clone(),
                    torch.full_like(fresh_weight, value),
                    torch.full_like(fresh_bias, value),
                )
                for value in (0.0, 1.0)
            ]
        old = len(weight)
        for name, first, second in zip(('weight', 'bias'), *tries, strict=True):
            if not torch.equal(first[:old], second[:old]):
                raise InputError(
                    f'the initialisation {type(self.grow).__name__} moves the {name} of old '
                    'classes by chance or by the rows of new ones, so they cannot be told again: '
                    'use another classifier_init, or leave out what asks for them (reanchor=True '
                    "of a regulariser, start='grown' of EWFHook)"
                )
        return tries[0]


def _grow_inputs(state: dict[str, Tensor], key: str, fresh: Tensor) -> None:
    missing = fresh.shape[1] - state[key].shape[1]
    if missing > 0:
        # PointHead appends the logits to its other inputs.
        zeros = state[key].new_zeros(state[key].shape[0], missing, *fresh.shape[2:])
        state[key] = torch.cat([state[key], zeros], dim=1)


def _grow_rows(
    state: dict[str, Tensor],
    name: str,
    layer: nn.Linear | _ConvNd,
    num_old: int,
    grow: ClassifierInit,
) -> None:
    weight, fresh = state[f'{name}.weight'], layer.weight
    bias = state.get(f'{name}.bias')
    if weight.shape != (num_old, *fresh.shape[1:]) or len(fresh) <= num_old:
        return
    if (bias is None) != (layer.bias is None) or (bias is not None and len(bias) != num_old):
        return
    grow = grow.of_layer(name)
    if layer.bias is None and grow.needs_bias:
        raise InputError(
            f'{name} has no bias, and {type(grow).__name__} lets new classes begin by theirs: use '
            'another classifier_init, or a head whose classifier has a bias'
        )
    with torch.no_grad():
        # Without a bias, the bias that the initialisation gives is lost.
        fresh_bias = (
            layer.bias[num_old:].to(weight.device)
            if layer.bias is not None
            else weight.new_zeros(len(fresh) - num_old)
        )
        weight, bias = grow(
            weight,
            weight.new_zeros(num_old) if bias is None else bias,
            fresh[num_old:].to(weight.device),
            fresh_bias,
        )
    state[f'{name}.weight'] = weight
    if layer.bias is not None:
        state[f'{name}.bias'] = bias


def what_cannot_grow(head: Mapping[str, Any]) -> list[str]:
    """Return the names of a head's weights that depend on the number of classes and do not grow.

    Args:
        head: Config of a head that classifies. The head is built twice.

    Raises:
        Exception: Any error of building the head.
    """
    small, large = (_build(head, count) for count in (3, 4))
    state = small.state_dict()
    fresh = {f'head.{key}': value for key, value in large.state_dict().items()}
    grown = {f'head.{key}': value.clone() for key, value in state.items()}
    grow_state(
        grown,
        {'head': large},
        3,
        ClassifierInit(),
    )
    return sorted(
        key.removeprefix('head.')
        for key in {*grown, *fresh}
        if key not in grown or key not in fresh or grown[key].shape != fresh[key].shape
    )


def weights_by_class(head: Mapping[str, Any]) -> list[str]:
    """Return the names of a head's weights whose shape follows from the number of classes.

    Args:
        head: Config of a head that classifies. The head is built twice.

    Raises:
        Exception: Any error of building the head.
    """
    small, large = (_build(head, count).state_dict() for count in (3, 4))
    return sorted(
        key
        for key in {*small, *large}
        if key not in small or key not in large or small[key].shape != large[key].shape
    )


def _build(head: Mapping[str, Any], num_classes: int) -> nn.Module:
    built: nn.Module = MODELS.build(
        ConfigDict(with_classes(head, num_classes, dict(type='CrossEntropyLoss')))
    )
    return built
