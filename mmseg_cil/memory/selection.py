"""The choice of exemplars: orders within a group of images, and the images a budget keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

#: The images kept for a group (a class, say), the most important first.
Lists = dict[str, tuple[str, ...]]


def region_features(embedding: Tensor, members: Tensor) -> Tensor:
    """Return one unit-length feature for each region of an image.

    A feature is the mean of the unit-length embeddings of the region's pixels, made
    unit-length again, so that images weigh alike however large the region is.
    iCaRL has one embedding per image; the mean over a class's pixels is our
    choice for segmentation. Embeddings are coarser than masks: a cell counts by
    the share of its area that the region covers, so that no region is too small
    to have a feature.

    Args:
        embedding: ``(D, h, w)``, the classifier's input.
        members: bool ``(K, H, W)``: the pixels of each of K regions.

    Returns:
        ``(K, D)`` float32; zeros for a region without pixels.
    """
    units = functional.normalize(embedding.float(), dim=0).flatten(1)
    height, width = embedding.shape[1:]
    shares = functional.adaptive_avg_pool2d(members.float(), (height, width))
    return functional.normalize(shares.flatten(1) @ units.T, dim=1)


def herding_order(features: npt.NDArray[np.floating], count: int) -> list[int]:
    r"""Order images so that every beginning of the order has nearly the mean of all.

    Greedily, the k-th pick minimises
    :math:`\| \mu - \frac{1}{k} (\phi_i + \sum_{j<k} \phi_{p_j}) \|`, where
    :math:`\mu` is the mean of all features. Among equally good images, the first
    is taken.

    Source: Rebuffi et al., "iCaRL: Incremental Classifier and Representation
    Learning", CVPR 2017, algorithm 4.

    Args:
        features: ``(N, D)``, unit-length rows (see :func:`region_features`).
        count: The most images to pick.

    Returns:
        At most ``count`` different indices below N.
    """
    values = np.asarray(features, np.float64)
    if not len(values):
        return []
    to_mean = values @ values.mean(axis=0)
    squares = (values * values).sum(axis=1)
    to_sum, left = np.zeros(len(values)), np.ones(len(values), bool)
    order: list[int] = []
    for k in range(1, min(count, len(values)) + 1):
        # The squared distance times k squared, without terms that are the same for all images.
        cost = squares + 2 * to_sum - 2 * k * to_mean
        best = int(np.where(left, cost, np.inf).argmin())
        order.append(best)
        left[best] = False
        to_sum += values @ values[best]
    return order


def random_order(names: Sequence[str], seed: int, group: str) -> list[int]:
    """Return a random order that depends on the names, the seed and the group alone.

    Each image has its own random number, a hash, so the images of a selection have
    the same order as in the whole: an image's rank among kept and new images does
    not depend on when the image came or where in a list it stood.

    Args:
        names: N different names.
        seed: Any integer.
        group: The group that the images are ordered for.

    Returns:
        The N indices.
    """
    keys = [
        hashlib.blake2b(f'{seed}\n{group}\n{name}'.encode(), digest_size=16).digest()
        for name in names
    ]
    return sorted(range(len(names)), key=lambda index: (keys[index], names[index]))


def keep_per_group(
    lists: Mapping[str, Sequence[str]], budget: int, shares: Mapping[str, int]
) -> Lists:
    """Keep the first images of every group, ``budget`` times the group's share.

    Args:
        lists: The images of each group, the most important first.
        budget: Images of a group of share 1; an image in two lists counts in both.
        shares: Weight of each group.
    """
    return {group: tuple(names[: budget * shares[group]]) for group, names in lists.items()}


def keep_in_turns(
    lists: Mapping[str, Sequence[str]], budget: int, shares: Mapping[str, int]
) -> Lists:
    """Keep as many different images as the budget has, groups taking turns.

    In every turn a group keeps the next image of its list (as many images as its
    share is). An image that another group keeps already costs nothing. A group
    is done when its list ends or its next image is beyond the budget. The quotas
    of groups are thus equal up to one, unless lists end or overlap, and the images
    that a group keeps are always a beginning of its list: keeping on with more
    groups and the same budget only shortens the lists.

    iCaRL's quota is the budget divided by the number of classes, rounded down.
    The quotas here are the same where lists are disjoint and long enough, except
    for the remainder, which turns use up (our choice).

    Args:
        lists: The images of each group, the most important first.
        budget: The most different images to keep.
        shares: Weight of each group, at least 1.
    """
    kept: set[str] = set()
    done = dict.fromkeys(lists, 0)
    going = list(lists)
    while going:
        for group in list(going):
            for _ in range(shares[group]):
                place = done[group]
                name = lists[group][place] if place < len(lists[group]) else None
                if name is None or (name not in kept and len(kept) >= budget):
                    going.remove(group)
                    break
                kept.add(name)
                done[group] += 1
    return {group: tuple(names[: done[group]]) for group, names in lists.items()}


def keep_in_rounds(
    candidates: Sequence[tuple[str, Collection[str]]], turns: Sequence[str], budget: int
) -> Lists:
    """Keep images in rounds in which each group takes the first image left that belongs to it.

    Unlike in :func:`keep_in_turns`, an image counts for the group that took it alone, and other
    groups take other images, also those that show several groups. The rounds end when the budget
    is used, or when no group finds an image (the official code never ends then).

    Source: clovaai/SSUL ``utils/memory.py``, ``memory_sampling_balanced``.

    Args:
        candidates: Images by name, each with its groups, in the order in which they are looked at.
        turns: All groups, in the order of their turns.
        budget: Number of images to keep.

    Returns:
        The images of each group, in the order in which it took them.

    Example:
        >>> shown = [('a', {'cat', 'dog'}), ('b', {'cat'}), ('c', {'dog'}), ('d', {'cow'})]
        >>> keep_in_rounds(shown, ['cat', 'dog'], budget=3)
        {'cat': ('a', 'b'), 'dog': ('c',)}
    """
    kept: dict[str, list[str]] = {group: [] for group in turns}
    left, count, found = list(candidates), 0, True
    while found and count < budget:
        found = False
        for group in turns:
            place = next((k for k, (_, groups) in enumerate(left) if group in groups), None)
            if place is None or count >= budget:
                continue
            kept[group].append(left.pop(place)[0])
            count, found = count + 1, True
    return {group: tuple(names) for group, names in kept.items()}


def regions(labels: Tensor, wanted: Sequence[int | None]) -> Tensor:
    """Return the pixels of some classes.

    Args:
        labels: ``(H, W)`` model ids; 255 is ignored.
        wanted: K model ids; None among them stands for every pixel that has a label.

    Returns:
        bool ``(K, H, W)``.
    """
    return torch.stack(
        [labels != 255 if class_id is None else labels == class_id for class_id in wanted]
    )
