"""STAR as its official code computes it, in plain form, for reading and for tests."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import softplus


def prototype_and_noise(units: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Return prototype, noise, and mean and standard deviation of the lengths of a class.

    The prototype p is the normalised sum of unit embeddings u, the noise of channel d is
    :math:`\sqrt{\overline{(u_d - p_d)^2}}`.

    Source: Chen et al., NeurIPS 2023; jinpeng0528/STAR ``base/base_trainer.py``.

    Args:
        units: ``(n, D)``, unit embeddings of the class's cells.
        lengths: ``(n,)``.

    Example:
        >>> units = torch.tensor([[0.6, 0.8], [0.6, -0.8]])
        >>> found = prototype_and_noise(units, torch.tensor([1.0, 3.0]))
        >>> found[0].tolist(), [round(value, 2) for value in found[1].tolist()]
        ([1.0, 0.0], [0.4, 0.8])
        >>> found[2].item()
        2.0
    """
    prototype = functional.normalize(units.sum(dim=0), dim=0)
    noise = (units - prototype).square().mean(dim=0).sqrt()
    return prototype, noise, lengths.mean(), lengths.std()


def replayed_cross_entropy(
    data: Tensor, fake: Tensor, background: Tensor, ratio: float, cells: int
) -> Tensor:
    r"""Return the loss of a step's new outputs, summed over them.

    .. math:: \frac{L + w_f L_f + w_b L_b}{1 + w_f + w_b},\quad
              w_f = n_f / cells,\quad w_b = ratio \cdot n_b / cells

    Source: jinpeng0528/STAR ``trainer/trainer_voc.py``.

    Args:
        data: ``(K,)``, the weighted cross-entropy of the batch's pixels, a mean for each output.
        fake: ``(n_f, K)``, logits of drawn embeddings of old classes.
        background: ``(n_b, K)``, logits of the batch's background cells.
        ratio: How often each background cell counts again.
        cells: Number of cells of the batch.
    """
    weights = len(fake) / cells, ratio * len(background) / cells
    total = data
    for weight, logits in zip(weights, (fake, background), strict=True):
        if len(logits):
            total = total + weight * softplus(logits).mean(dim=0)
    return (total / (1 + sum(weights))).sum()


def old_class_features(embedding: Tensor, teacher_embedding: Tensor, region: Tensor) -> Tensor:
    """Return the squared difference of embeddings, weighted by a bilinearly shrunk region.

    Source: jinpeng0528/STAR ``models/loss.py``, ``PKDLoss``, which is not a number for an empty
    region; here it is 0.

    Args:
        embedding: ``(N, D, h, w)``.
        teacher_embedding: ``(N, D, h, w)``.
        region: ``(N, 1, H, W)``, 1 where the label is background and the teacher sees a class.
    """
    share = functional.interpolate(region, embedding.shape[2:], mode='bilinear')
    weighted = share * (embedding - teacher_embedding) ** 2
    return weighted.sum() / (share.sum().clamp(min=1e-6) * embedding.shape[1])


def contrast(embedding: Tensor, labels: Tensor, first: int, count: int, old: Tensor) -> Tensor:
    """Return the mean over new classes of 1 / distance of their centres to the nearest prototype.

    Source: jinpeng0528/STAR ``models/loss.py``, ``ContLoss``.

    Args:
        embedding: ``(N, D, h, w)``.
        labels: ``(N, H, W)`` model ids.
        first: Model id of the first new class.
        count: K, the number of new classes.
        old: ``(F, D)``, prototypes of old classes.

    Example:
        >>> embedding = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
        >>> label = torch.full((1, 1, 1), 2)
        >>> # The centre (0.6, 0.8) is sqrt(0.8) from the prototype (1, 0).
        >>> cost = contrast(embedding, label, 2, 1, torch.tensor([[1.0, 0.0]]))
        >>> round(cost.item() ** -2, 4)
        0.8
    """
    costs = []
    for class_id in range(first, first + count):
        target = (labels == class_id).unsqueeze(1).to(embedding)
        share = functional.interpolate(target, embedding.shape[2:], mode='bilinear')
        centre = (share * functional.normalize(embedding, dim=1)).sum(dim=(0, 2, 3))
        centre = functional.normalize(centre, dim=0)
        costs.append(1 / (centre - old).norm(dim=1).min())
    return torch.stack(costs).mean()
