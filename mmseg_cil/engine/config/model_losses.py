"""The losses of a user's model: replaced by a method's, kept, or cut to a step's classes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

from mmseg.models.decode_heads import DDRHead, EncHead, PIDHead, PointHead
from mmseg.models.losses import (
    BoundaryLoss,
    CrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    HuasdorffDisstanceLoss,
    LovaszLoss,
    OhemCrossEntropy,
    TverskyLoss,
)
from mmseg.models.losses.utils import get_class_weight

from mmseg_cil.errors import InputError
from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.models.heads import has_own_target, head_class
from mmseg_cil.models.plain import loss_weight, scaled_losses, type_name
from mmseg_cil.protocols import Protocol

#: Losses of the class of single pixels: a method's own losses take their place.
_OF_PIXELS = (CrossEntropyLoss, OhemCrossEntropy, FocalLoss, DecodeLoss)
#: Losses of regions and boundaries: they stay beside a method's own losses.
_OF_REGIONS = (DiceLoss, TverskyLoss, LovaszLoss, HuasdorffDisstanceLoss, BoundaryLoss)
#: Heads that find their losses by place in the list; each loss is for another output of the head.
_BY_PLACE = (PIDHead, DDRHead)
_DEFAULT_LOSS = dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)


@dataclass(frozen=True)
class StepClasses:
    """The classes of a step in the numbering of the data set.

    Attributes:
        places: For every output of the step's network, the place of its class in the
            data set's own list; None for a background that this list does not have.
        count: Number of classes in that list.
    """

    places: tuple[int | None, ...]
    count: int

    @classmethod
    def of(cls, protocol: Protocol, step: int) -> StepClasses:
        """Return the classes seen at a step of a walk, in the order of the network's outputs."""
        added = int(protocol.taxonomy.background_added)
        return cls(
            tuple(
                class_id - added if class_id >= added else None
                for class_id in protocol.steps[step].seen
            ),
            len(protocol.taxonomy.names) - added,
        )

    def cut(self, values: Any, where: str) -> list[float]:
        """Return the weights of the step's classes among those of all classes of the data set.

        Args:
            values: A sequence of weights, or the name of a file as MMSegmentation reads it. The
                weight of a background that the data set does not list may come first; where it
                is missing, the background's weight is 1.
            where: Name of the weights in messages.

        Raises:
            InputError: The weights cannot be read, are no numbers of 0 or more, or there are
                more or fewer weights than classes.
        """
        try:
            listed = [float(value) for value in get_class_weight(values)]
        except Exception as error:
            raise InputError(
                f'{where} is {values!r}, which is no list of numbers and no file of '
                f'one ({type(error).__name__}: {error})'
            ) from error
        if not all(math.isfinite(value) and value >= 0 for value in listed):
            raise InputError(f'{where} is {listed}; weights must be finite numbers, 0 or more')
        with_background = None in self.places and len(listed) == self.count + 1
        if len(listed) != self.count and not with_background:
            raise InputError(
                f'{where} has {len(listed)} values, and the data set has {self.count} classes: '
                'give one for each class of the data set, in its order; each step takes those of '
                'its own classes'
            )
        background = listed.pop(0) if with_background else 1.0
        return [background if place is None else listed[place] for place in self.places]

    def output_of(self, place: int) -> int | None:
        """Return the output of a class by its place in the data set's list, or None if unseen."""
        return self.places.index(place) if place in self.places else None


def named_heads(
    model: Mapping[str, Any], own_target: bool = False
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every head that classifies, with the key of its config; for K-Net, its first part.

    Args:
        model: The ``model`` of a config.
        own_target: Whether to yield the heads that learn something else instead
            (:func:`~mmseg_cil.models.heads.has_own_target`).
    """
    for name in ('decode_head', 'auxiliary_head'):
        heads: Any = model.get(name)
        listed = isinstance(heads, (list, tuple))
        for i, head in enumerate(heads if listed else [heads]):
            if not isinstance(head, Mapping) or has_own_target(head) is not own_target:
                continue
            where = f'model.{name}.{i}' if listed else f'model.{name}'
            if isinstance(head.get('kernel_generate_head'), Mapping):
                head, where = head['kernel_generate_head'], f'{where}.kernel_generate_head'
            yield where, head


def losses_of(head: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the configs of a head's losses."""
    losses = head.get('loss_decode') or _DEFAULT_LOSS
    return [dict(loss) for loss in losses] if isinstance(losses, (list, tuple)) else [dict(losses)]


def is_replaced(losses: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Return for every loss of a head whether a method's own loss takes its place.

    Losses of single pixels are replaced, and losses of regions stay. Other losses, which a user
    wrote, stay beside a loss of single pixels and are replaced where there is no such loss.
    """
    kinds = [head_class(loss) for loss in losses]
    of_pixels = [kind is not None and issubclass(kind, _OF_PIXELS) for kind in kinds]
    if any(of_pixels):
        return of_pixels
    return [kind is None or not issubclass(kind, _OF_REGIONS) for kind in kinds]


def main_weight(model: Mapping[str, Any]) -> float:
    """Return the weight of the replaced loss in the head that distillers read."""
    heads = [
        (head, head_class(head))
        for where, head in named_heads(model)
        if where.startswith('model.decode_head')
    ]
    maps = [head for head, kind in heads if kind is None or not issubclass(kind, PointHead)]
    return _replaced_weight(maps[-1]) if maps else 1.0


def _replaced_weight(head: Mapping[str, Any]) -> float:
    losses = losses_of(head)
    replaced = [loss for loss, own in zip(losses, is_replaced(losses), strict=True) if own]
    weights = [loss_weight({'loss_decode': loss}) for loss in replaced or losses]
    return max(weights) if _finds_by_place(head) else sum(weights)


def _finds_by_place(head: Mapping[str, Any]) -> bool:
    kind = head_class(head)
    return kind is not None and issubclass(kind, _BY_PLACE)


def with_method_losses(head: dict[str, Any], losses: Any, main: float) -> dict[str, Any]:
    """Return a head's config with a method's losses in place of its own, or beside them.

    Args:
        head: Config of a head that classifies.
        losses: The losses of the method, one or a list.
        main: Weight from :func:`main_weight`. The weight of each loss is multiplied by the
            weight of the replaced losses and divided by ``main``.
    """
    own = losses_of(head)
    replaced = is_replaced(own)
    if _finds_by_place(head):
        result: Any = [
            _as_one(scaled_losses(losses, loss_weight({'loss_decode': loss}) / (main or 1.0)))
            if gone
            else loss
            for loss, gone in zip(own, replaced, strict=True)
        ]
    else:
        result = scaled_losses(losses, _replaced_weight(head) / (main or 1.0))
        kept = [
            dict(type='MergedBackgroundLoss', loss=loss)
            for loss, gone in zip(own, replaced, strict=True)
            if not gone
        ]
        if kept:
            result = [*(result if isinstance(result, list) else [result]), *kept]
    head = {**head, 'loss_decode': result}
    kind = head_class(head)
    if kind is not None and issubclass(kind, EncHead):
        presence = (
            head.get('loss_se_decode') or signature(EncHead).parameters['loss_se_decode'].default
        )
        head['loss_se_decode'] = dict(type='VisibleClassesLoss', loss=dict(presence))
    return head


def _as_one(losses: Any) -> dict[str, Any]:
    listed = losses if isinstance(losses, list) else [losses]
    return listed[0] if len(listed) == 1 else dict(type='SummedLoss', losses=listed)


def for_step(node: Any, classes: StepClasses, where: str) -> Any:
    """Copy the config of a head, or a part of it, with its losses fitted to a step's classes.

    Weights of classes (``class_weight``, and ``alpha`` where it is a list) are cut to
    those of the step. A class that ``DiceLoss`` is to leave out (its ``ignore_index``), and
    those that ``LovaszLoss`` is to average over (its ``classes``), are named by the outputs
    that they have at the step.

    Args:
        node: The config, nested mappings and sequences.
        classes: Classes of the step.
        where: The key of ``node``, for messages.

    Raises:
        InputError: See :meth:`StepClasses.cut`.
    """
    if isinstance(node, (list, tuple)):
        return type(node)(for_step(part, classes, f'{where}.{i}') for i, part in enumerate(node))
    if not isinstance(node, Mapping):
        return node
    result = {key: for_step(value, classes, f'{where}.{key}') for key, value in node.items()}
    for key in ('class_weight', 'alpha'):
        value = node.get(key)
        if value is not None and (key == 'class_weight' or isinstance(value, (list, tuple))):
            result[key] = classes.cut(value, f'{where}.{key}')
    kind, left_out, chosen = (node.get('type'), node.get('ignore_index'), node.get('classes'))
    if type_name(kind) == 'DiceLoss' and isinstance(left_out, int) and left_out != 255:
        output = classes.output_of(left_out)
        # A number that no output has.
        result['ignore_index'] = 255 if output is None else output
    if type_name(kind) == 'LovaszLoss' and isinstance(chosen, (list, tuple)):
        outputs = [output for loss in chosen if (output := classes.output_of(loss)) is not None]
        result['classes'] = outputs or 'present'
        if not outputs:
            result['loss_weight'] = 0.0
    return result
