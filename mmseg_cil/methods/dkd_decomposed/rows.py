"""The initialisation of the rows of new foreground classes."""

from __future__ import annotations

import math

from torch import Tensor

from mmseg_cil.contracts import ClassifierInit
from mmseg_cil.models.classifier import random_rows
from mmseg_cil.registry import CLASSIFIER_INITS
from mmseg_cil.utils.values import check_number


@CLASSIFIER_INITS.register_module(name='rare')
class RareRows(ClassifierInit):
    """Random rows of classes that are improbable everywhere, for sigmoid outputs.

    A random row with a bias of 0 has sigmoids about 0.5, so that half of the pixels would show the
    new class. Decomposed distillation puts the auxiliary row in the place of these rows
    (``ForegroundRows``); they remain where there is none, at a step that does not train and after
    a step that another method trained.

    Source: ours.

    Args:
        probability: The sigmoid of each new bias. Defaults to 0.01.

    Raises:
        InputError: ``probability`` is not above 0 and below 1.
    """

    needs_bias = True

    def __init__(self, probability: float = 0.01) -> None:
        check_number(self, 'probability', probability, least=1e-6, most=1 - 1e-6)
        self.probability = probability

    def __call__(
        self, weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the rows; see :class:`~mmseg_cil.contracts.ClassifierInit`."""
        value = math.log(self.probability / (1 - self.probability))
        return random_rows(weight, bias, fresh_weight, fresh_bias.new_full(fresh_bias.shape, value))
