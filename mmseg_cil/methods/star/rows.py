"""How the rows of new classes begin in STAR."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmseg_cil.contracts import ClassifierInit
from mmseg_cil.models.classifier import random_rows
from mmseg_cil.registry import CLASSIFIER_INITS


@CLASSIFIER_INITS.register_module(name='kaiming')
class KaimingRows(ClassifierInit):
    """Normal weights of variance 2 / D, and biases uniform in +-1 / sqrt(D), for D inputs of a row.

    Source: jinpeng0528/STAR ``models/model.py``, ``_init_classifier``.
    """

    def __call__(
        self, weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the rows; see :class:`~mmseg_cil.contracts.ClassifierInit`."""
        inputs = weight[0].numel()
        drawn = torch.empty_like(fresh_weight).normal_(0.0, math.sqrt(2 / inputs))
        bound = 1 / math.sqrt(inputs)
        return random_rows(
            weight, bias, drawn, torch.empty_like(fresh_bias).uniform_(-bound, bound)
        )
