"""Construction of the losses of distillers."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from mmseg_cil.contracts import ComparisonLoss, HeadLoss
from mmseg_cil.contracts.check import check_part
from mmseg_cil.contracts.method import Part
from mmseg_cil.errors import InputError
from mmseg_cil.registry import MODELS


class NamedLoss(Protocol):
    """A loss that compares two networks for a distiller: a module of any origin with a name."""

    loss_name: str

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss, a scalar, of maps of the student and of the teacher."""


def build_distillation_loss(owner: nn.Module, config: Part) -> NamedLoss:
    """Build the loss of a distiller, which compares two networks.

    Args:
        owner: The distiller.
        config: Config of the loss.

    Raises:
        InputError: The loss is a loss on labels, or it has no name for the log. Without
            this check both mistakes would show in the second step only.
    """
    loss: NamedLoss = MODELS.build(config)
    if isinstance(loss, HeadLoss):
        raise InputError(
            f'{type(owner).__name__}: {type(loss).__name__} compares logits with '
            'labels, not student with teacher: it belongs in loss_decode'
        )
    if not isinstance(getattr(loss, 'loss_name', None), str):
        raise InputError(
            f'{type(owner).__name__}: {type(loss).__name__} has no loss_name, under '
            'which a loss is logged: give the class one'
        )
    check_part(loss, ComparisonLoss, type(owner).__name__)
    return loss


def tell_classifier(loss: NamedLoss | None, rows: Tensor | None) -> None:
    """Give the rows ``(C, D)`` of the student's classifier to a loss that can receive them."""
    if isinstance(loss, ComparisonLoss):
        loss.receive_classifier(rows)
