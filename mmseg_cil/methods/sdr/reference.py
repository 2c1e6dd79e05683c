"""SDR's losses and prototypes, class by class, for reading and for tests; training does not use it.

Tests compare these forms with stored numbers of the official code, and the forms used in training,
which are in ``terms`` and ``prototypes``, with these forms.
"""

from __future__ import annotations

import torch
from torch import Tensor


def features_of(features: Tensor, labels: Tensor, class_id: int, cut: str | None = None) -> Tensor:
    """Return the features ``(D, k)`` of the k cells of a class.

    The official code cuts what a mask takes out of the map into D lines (``cut='lines'``), which
    is right for a single image, or into k lines of D numbers (``cut='columns'``), which is never
    right.

    Source: LTTM/SDR ``utils/loss.py`` and ``train.py`` (``_update_running_stats``).

    Args:
        features: ``(N, D, h, w)``.
        labels: ``(N, h, w)`` ids.
        class_id: The class.
        cut: None, 'lines' or 'columns'.
    """
    channels = features.shape[1]
    if cut is None:
        return features.movedim(1, 0)[:, labels == class_id]
    row = features[(labels == class_id).unsqueeze(1).expand_as(features)]
    return row.view(channels, -1) if cut == 'lines' else row.view(-1, channels).T


def running_means(
    features: Tensor, labels: Tensor, prototypes: Tensor, counts: Tensor, cut: str | None = None
) -> tuple[Tensor, Tensor]:
    """Return prototypes ``(C, D)`` and counts ``(C,)`` after one more batch.

    A prototype is the mean over all cells of its class so far. The class 0, the background, is
    left out; the official code (``cut='lines'``) leaves out the first class of the batch, which
    may be another.

    Source: Michieli and Zanuttigh, "Continual Semantic Segmentation via Repulsion-Attraction of
    Sparse and Disentangled Latent Representations", CVPR 2021; LTTM/SDR ``train.py``.

    Example:
        >>> features, labels = torch.tensor([2.0, 4.0]).view(1, 1, 1, 2), torch.ones(1, 1, 2).long()
        >>> before, cells = torch.tensor([[0.0], [9.0]]), torch.tensor([0, 1])
        >>> means, cells = running_means(features, labels, before, cells)
        >>> means.flatten().tolist(), cells.tolist()  # (9 + 2 + 4) / 3
        ([0.0, 5.0], [0, 3])
    """
    prototypes, counts = prototypes.clone(), counts.clone()
    present = sorted(set(labels.flatten().tolist()))
    present = present[1:] if cut else [class_id for class_id in present if class_id]
    for class_id in present:
        if class_id != 255:
            own = features_of(features, labels, class_id, cut)
            total = own.sum(dim=1) + counts[class_id] * prototypes[class_id]
            counts[class_id] += own.shape[1]
            prototypes[class_id] = total / counts[class_id]
    return prototypes, counts


def matching(
    features: Tensor, predicted: Tensor, prototypes: Tensor, cut: str | None = None
) -> Tensor:
    """Compute the loss of old foreground classes that the teacher sees where labels are 0.

    Args:
        features: ``(N, D, h, w)``.
        predicted: ``(N, h, w)``: the teacher's class where the label is 0, else 0.
        prototypes: ``(C, D)``.
        cut: As in :func:`features_of`; 'columns' officially.
    """
    losses = [
        (features_of(features, predicted, class_id, cut).mean(dim=1) - prototypes[class_id])
        .square()
        .mean()
        for class_id in sorted(set(predicted.flatten().tolist()) - {0})
    ]
    return torch.stack(losses).mean()


def attraction(
    features: Tensor, labels: Tensor, prototypes: Tensor, cut: str | None = None
) -> Tensor:
    """Compute the loss of each class's features for its prototype; the background is a class.

    Args:
        features: ``(N, D, h, w)``.
        labels: ``(N, h, w)`` ids, or 255.
        prototypes: ``(C, D)``.
        cut: As in :func:`features_of`; 'lines' officially, and with it the running sum is divided
            by the number of classes after each class.
    """
    present = sorted(set(labels.flatten().tolist()) - {255})
    total = features.new_zeros(())
    for class_id in present:
        own = features_of(features, labels, class_id, cut)
        total = total + (own - prototypes[class_id].unsqueeze(1)).square().mean()
        if cut:
            total = total / len(present)
    return total if cut else total / len(present)


def separation(features: Tensor, labels: Tensor, cut: str | None = None) -> Tensor:
    """Compute the mean inverse distance between mean features of two different classes.

    Args:
        features: ``(N, D, h, w)``.
        labels: ``(N, h, w)`` ids, or 255.
        cut: As in :func:`features_of`; 'lines' officially.
    """
    present = sorted(set(labels.flatten().tolist()) - {255})
    means = [features_of(features, labels, class_id, cut).mean(dim=1) for class_id in present]
    inverse = [1 / (a - b).norm() for a in means for b in means if a is not b]
    return torch.stack(inverse).mean()


def sparsity(features: Tensor, labels: Tensor) -> Tensor:
    """Compute the ratio of the sum of exponentials to the sum, of features of greatest value 1.

    Args:
        features: ``(N, D, h, w)``.
        labels: ``(N, h, w)`` ids; void is a class of its own.
    """
    normalised = torch.zeros_like(features)
    for class_id in labels.unique().tolist():
        region = (labels == class_id).unsqueeze(1).expand_as(features)
        normalised = normalised + features / features[region].max() * region
    return (normalised.exp().sum(dim=1) / normalised.sum(dim=1)).mean()
