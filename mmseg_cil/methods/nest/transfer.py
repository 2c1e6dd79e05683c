"""NeST's formulas: importance of old rows for a new class, the transfer, and the scaling."""

from __future__ import annotations

import torch
from torch import Tensor

#: How the biases of new classes are scaled; see :func:`finished_rows`.
BIAS_SCALES = ('each', 'sum')


def importance_sums(
    embedding: Tensor, probabilities: Tensor, labels: Tensor, weight: Tensor, num_new: int
) -> tuple[Tensor, Tensor]:
    r"""Return the importance of old rows summed over the cells of each new class, and their number.

    .. math:: S_{k,o,d} = \sum_{i \in k} p_o(i) \, [f_d(i) \, w_{o,d} > 0]

    The sign of a product is the product of the signs, so that two matrix products per class give
    all channels. A sum over no cell is 0.

    Source: Xie et al., "Early Preparation Pays Off: New Classifier Pre-tuning for Class Incremental
    Semantic Segmentation", ECCV 2024, section on the initialisation of the matrices;
    zhengyuan-xie/ECCV24_NeST ``train.py``, ``select``.

    Args:
        embedding: f, ``(N, D, h, w)``, the input of the last step's classifier.
        probabilities: p, ``(N, O, h, w)``, softmax of the last step's logits.
        labels: ``(N, h, w)``, model ids; new classes are ``O .. O + K - 1``.
        weight: w, ``(O, D)``, rows of the last step's classifier.
        num_new: K.

    Returns:
        Sums ``(K, O, D)`` and numbers of cells ``(K,)``, float64.
    """
    num_old, channels = weight.shape
    features = embedding.movedim(1, -1).reshape(-1, channels)
    shares = probabilities.movedim(1, -1).reshape(-1, num_old)
    above, below = weight > 0, weight < 0
    sums = weight.new_zeros(num_new, num_old, channels, dtype=torch.float64)
    counts = weight.new_zeros(num_new, dtype=torch.float64)
    for place in range(num_new):
        cells = (labels == num_old + place).flatten()
        share, feature = shares[cells].double().T, features[cells]
        sums[place] += above * (share @ (feature > 0).double())
        sums[place] += below * (share @ (feature < 0).double())
        counts[place] += cells.sum()
    return sums, counts


def mean_importance(sums: Tensor, counts: Tensor) -> Tensor:
    """Return the importance of old rows for each new class, float32 ``(K, O, D)``.

    A class without a cell gets the whole row of the background and nothing of the others, as in
    MiB's initialisation (our choice; the official code divides 0 by 0).

    Args:
        sums: ``(K, O, D)`` from :func:`importance_sums`, over all images.
        counts: ``(K,)``, its numbers of cells.
    """
    seen = (counts > 0)[:, None, None]
    absent = torch.zeros_like(sums)
    absent[:, 0] = 1.0
    return torch.where(seen, sums / counts.clamp_min(1.0)[:, None, None], absent).float()


def mixing_of(importance: Tensor) -> Tensor:
    """Return the shares of the old classes in each new row, ``(K, O)``, which sum to 1.

    Source: ``segmentation_module.py``, ``reset_weight_old``.

    Args:
        importance: ``(K, O, D)``.
    """
    return importance.sum(dim=2).softmax(dim=1)


def new_rows(mixing: Tensor, importance: Tensor, weight: Tensor) -> Tensor:
    r"""Return the rows of new classes, ``(K, D)``: :math:`\sum_o m_{k,o} I_{k,o,d} w_{o,d}`.

    Source: ``segmentation_module.py``, ``avg_weight_output``.

    Args:
        mixing: m, ``(K, O)``.
        importance: I, ``(K, O, D)``.
        weight: w, ``(O, D)``, rows of the old classes.
    """
    return torch.einsum('ko,kod,od->kd', mixing, importance, weight)


def finished_rows(
    weight: Tensor,
    bias: Tensor | None,
    background: Tensor,
    rows: Tensor,
    new_bias: Tensor | None,
    bias_scale: str = 'each',
) -> tuple[Tensor, Tensor | None]:
    """Return the rows and biases that a step begins with, scaled to those of the old classes.

    * The background's row gets the length that it had before the pre-tuning; its bias stays.
    * New rows are scaled by one factor, so that their mean length is that of the old rows.
    * New biases are scaled by one factor, so that their root mean square is that of the old biases
      ('each', our choice). The official code compares the lengths of the two vectors of biases
      ('sum'), so that one new class gets a bias as long as the O old biases together.

    A factor that would divide by 0 is 1.

    Source: ``segmentation_module.py``, ``init_via_weight`` and ``align_weight``.

    Args:
        weight: ``(O, D)``, rows of the old classes, background first.
        bias: ``(O,)``; None without biases.
        background: ``(D,)``, the background's row after the pre-tuning.
        rows: ``(K, D)``, rows of the new classes after it.
        new_bias: ``(K,)``, their biases; None without biases.
        bias_scale: 'each' or 'sum'.

    Returns:
        Weight ``(O + K, D)`` and bias ``(O + K,)``, or None.
    """
    background = background * _ratio(weight[0].norm(), background.norm())
    old = torch.cat([background[None], weight[1:]])
    rows = rows * _ratio(old.norm(dim=1).mean(), rows.norm(dim=1).mean())
    if bias is None or new_bias is None:
        return torch.cat([old, rows]), None
    share = (len(new_bias) / len(bias)) ** 0.5 if bias_scale == 'each' else 1.0
    new_bias = new_bias * (share * _ratio(bias.norm(), new_bias.norm()))
    return torch.cat([old, rows]), torch.cat([bias, new_bias])


def _ratio(length: Tensor, other: Tensor) -> Tensor:
    """Return ``length / other``; 1 where ``other`` is 0."""
    some = other > 0
    return torch.where(some, length / torch.where(some, other, 1.0), 1.0)
