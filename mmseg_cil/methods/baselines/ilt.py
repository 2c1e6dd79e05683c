"""Distillation of feature maps by their squared distance: ILT."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import mse_loss

from mmseg_cil.errors import InputError
from mmseg_cil.losses.distillation_loss import TwoNetworkLoss
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.registry import MODELS


def feature_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean squared difference of two feature maps, over images, channels and places.

    Source: Michieli and Zanuttigh, "Incremental Learning Techniques for Semantic
    Segmentation", ICCV workshops 2019, the loss on the encoder's output;
    fcdl94/MiB ``train.py``, ``lde_loss``.

    Args:
        student: ``(N, D, h, w)``. Half precision is computed in float32.
        teacher: The same shape.

    Returns:
        Scalar, at least float32.

    Raises:
        InputError: The shapes differ.
    """
    if student.shape != teacher.shape:
        raise InputError(
            f'features of student {tuple(student.shape)} and teacher '
            f'{tuple(teacher.shape)} differ in shape: compare maps of the same stage'
        )
    return mse_loss(at_least_float32(student), at_least_float32(teacher))


@MODELS.register_module()
class FeatureDistillationLoss(TwoNetworkLoss):
    """Registered form of :func:`feature_distillation`, for a ``FeatureDistiller``.

    Args:
        loss_weight: Factor of the loss. Defaults to 100.0, as in the MiB scripts.
        loss_name: Name in the log. Defaults to 'loss_features'.
    """

    def __init__(self, loss_weight: float = 100.0, loss_name: str = 'loss_features') -> None:
        super().__init__(loss_weight, loss_name)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return ``loss_weight`` times the mean squared difference (a scalar)."""
        return self.loss_weight * feature_distillation(student, teacher)
