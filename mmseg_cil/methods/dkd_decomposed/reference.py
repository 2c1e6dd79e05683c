"""Decomposed distillation as the paper states it, for reading and for tests.

Tests compare these forms with stored numbers of the official code, and the forms used in training
with these forms.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, conv2d


def foreground_cross_entropy(
    logits: Tensor, labels: Tensor, first: int, pos_weight: float = 1.0, void: str = 'ignored'
) -> Tensor:
    r"""Return the binary cross-entropy of each new output, a mean over images and pixels.

    .. math:: -\frac{1}{N H W} \sum_i w \, [y_i = c] \log \sigma(z_{ic})
              + [y_i \ne c] \log (1 - \sigma(z_{ic}))

    Source: Baek et al., NeurIPS 2022, equation 2; cvlab-yonsei/DKD ``models/loss.py``,
    ``WBCELoss``, where void pixels are background.

    Args:
        logits: ``(N, C, H, W)``; output 0 is not used.
        labels: ``(N, H, W)`` model ids, or 255.
        first: Model id of the first new output.
        pos_weight: w.
        void: 'ignored' or 'background'.

    Returns:
        ``(C - first,)``.

    Example:
        >>> logits = torch.zeros(1, 3, 1, 2)
        >>> labels = torch.tensor([[[0, 2]]])
        >>> # Two pixels and two outputs, each with a sigmoid of 0.5: log 2 everywhere.
        >>> [round(value, 4) for value in foreground_cross_entropy(logits, labels, 1).tolist()]
        [0.6931, 0.6931]
    """
    outputs = logits[:, first:]
    classes = torch.arange(first, logits.shape[1]).view(1, -1, 1, 1)
    targets = (labels.unsqueeze(1) == classes).to(outputs)
    loss = binary_cross_entropy_with_logits(
        outputs, targets, pos_weight=outputs.new_tensor(pos_weight), reduction='none'
    )
    if void == 'ignored':
        loss = loss * (labels != 255).unsqueeze(1)
    return loss.mean(dim=(0, 2, 3))


def auxiliary_cross_entropy(auxiliary: Tensor) -> Tensor:
    r"""Return the mean of :math:`-\log(1 - \sigma(z))`: the auxiliary class is nowhere.

    Source: Baek et al., NeurIPS 2022, section 3.3; cvlab-yonsei/DKD ``models/loss.py``, ``ACLoss``.

    Args:
        auxiliary: ``(N, H, W)``, logits of the auxiliary row.
    """
    return -torch.log(1 - auxiliary.sigmoid()).mean()


def decomposed_logits(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the positive and the negative reasons of logits.

    .. math:: z = \sum_d \max(w_d, 0) \, x_d + \sum_d \min(w_d, 0) \, x_d + b

    Source: Baek et al., NeurIPS 2022, equations 4 and 5; cvlab-yonsei/DKD ``models/model.py``.

    Args:
        features: ``(N, D, h, w)``.
        weight: ``(F, D)``.

    Example:
        >>> features = torch.ones(1, 3, 1, 1)
        >>> parts = decomposed_logits(features, torch.tensor([[2.0, 1.0, -4.0]]))
        >>> [part.item() for part in parts]
        [3.0, -4.0]
    """
    zero = torch.zeros_like(weight)
    parts = (torch.where(weight > 0, weight, zero), torch.where(weight < 0, weight, zero))
    positive, negative = (conv2d(features, part[:, :, None, None]) for part in parts)
    return positive, negative


def distillation(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the binary cross-entropy of each output with the teacher's sigmoid as its target.

    The same formula holds for logits and for their positive and negative parts.

    Source: Baek et al., NeurIPS 2022, equations 3, 6 and 7; cvlab-yonsei/DKD ``models/loss.py``,
    ``KDLoss``.

    Args:
        logits: ``(N, F, H, W)``.
        teacher_logits: ``(N, F, H, W)``.

    Returns:
        ``(F,)``, means over images and pixels.
    """
    targets = teacher_logits.sigmoid()
    loss = -(targets * logits.sigmoid().log() + (1 - targets) * (1 - logits.sigmoid()).log())
    return loss.mean(dim=(0, 2, 3))


def predicted(foreground: Tensor) -> Tensor:
    """Return the predicted classes: background where no sigmoid is above 0.5.

    Source: cvlab-yonsei/DKD ``trainer/trainer_voc.py``.

    Args:
        foreground: ``(N, F, H, W)``, logits of the foreground classes 1 to F.

    Example:
        >>> logits = torch.tensor([[-1.0, 2.0], [-2.0, -0.5]])[:, :, None, None]
        >>> predicted(logits).flatten().tolist()
        [2, 0]
    """
    classes = foreground.argmax(dim=1) + 1
    return classes.masked_fill(~(foreground.sigmoid() > 0.5).any(dim=1), 0)
