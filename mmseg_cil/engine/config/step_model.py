"""From the inputs of a step to the config of the step's segmentor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.engine.config.model_losses import (
    StepClasses,
    for_step,
    main_weight,
    with_method_losses,
)
from mmseg_cil.models.plain import SEGMENTORS, map_heads, plain_type, replace_value, type_name
from mmseg_cil.protocols import Protocol


@dataclass(frozen=True)
class StepInputs:
    """The inputs that a step begins with.

    Attributes:
        previous: Checkpoint and number of classes of the last step, or None.
        teacher: Checkpoint and number of classes of the snapshot to learn from, or None.
        images: Training images of every step of the walk.
        resume: Whether training goes on from ``resume.pth`` in the step's folder.
        exemplars: Path of the list of exemplars to replay, or None.
        teachers: Further snapshots by name, in the order they were learnt (see
            :class:`~mmseg_cil.models.teachers.Teachers`).
    """

    previous: dict[str, Any] | None
    teacher: dict[str, Any] | None
    images: Sequence[int]
    resume: bool = False
    exemplars: str | None = None
    teachers: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def step_context_config(protocol: Protocol, step: int, iterations: Sequence[int]) -> dict[str, Any]:
    """Return the plain form of the step's ``StepContext``.

    Args:
        protocol: Protocol of the walk.
        step: The step.
        iterations: Iterations of every step; 0 where a step does not train.
    """
    known = protocol.class_steps(step)
    last = len(protocol.steps) - 1
    return dict(
        index=step,
        class_steps=list(known),
        has_background=protocol.taxonomy.has_background,
        old_labels_hidden=protocol.old_labels_hidden,
        by_domain=protocol.kind == 'domain',
        trained=[i for i in range(step) if iterations[i]],
        num_future=len(protocol.class_steps(last)) - len(known),
    )


def model_of_step(
    model: Mapping[str, Any],
    method: MethodConfig,
    context: dict[str, Any],
    inputs: StepInputs,
    classes: StepClasses | None = None,
) -> dict[str, Any]:
    """Return the segmentor's config at a step.

    A method's ``loss_decode``, one loss or a list, replaces the losses of the heads that
    classify single pixels (``CrossEntropyLoss`` and its like). In the decode head it keeps
    the weights that the method gives it. Auxiliary heads get it too, because plain
    cross-entropy there would undo what the method does about hidden classes; the share of an
    auxiliary head stays the sum of its own loss weights over that of the decode head. Losses
    of regions (Dice, Lovasz, Tversky) stay beside the method's loss. Weights of classes are
    cut to those of the step.

    Args:
        model: Model of the user's config, with the step's overrides.
        method: Method of the step.
        context: Plain context of the step, from :func:`step_context_config`.
        inputs: Inputs that the step begins with.
        classes: Classes of the step. None leaves weights of classes as they are.

    Raises:
        InputError: Weights of classes are wrong.
    """
    num_classes = len(context['class_steps'])
    main = main_weight(model)

    def at_step(head: dict) -> dict:
        head.update(num_classes=num_classes)
        head.pop('out_channels', None)
        if method.loss_decode:
            head = with_method_losses(head, method.loss_decode, main)
        fitted: dict = (
            head if classes is None else for_step(head, classes, type_name(head.get('type')))
        )
        return fitted

    result = map_heads(model, at_step)
    if not torch.cuda.is_available():
        # Synchronised batch norm exists on GPUs only.
        result = replace_value(result, 'SyncBN', 'BN')
    result.update(
        type=SEGMENTORS[plain_type(model)],
        step=context,
        previous=inputs.previous,
        teacher=inputs.teacher,
        teachers={name: dict(snapshot) for name, snapshot in inputs.teachers.items()},
        **method.for_network(),
    )
    return result
