"""Passes over images beside training, which leave the random streams of training alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader, Dataset, Subset

from mmseg_cil.datasets.sampler import SampleKey


def pass_over(
    dataset: Dataset,
    num_workers: int,
    batch_size: int = 1,
    collate: Callable[..., Any] = pseudo_collate,
) -> DataLoader:
    """Return a loader of all samples, in order, that leaves training's random numbers alone.

    Args:
        dataset: The samples.
        num_workers: Number of worker processes.
        batch_size: Samples of a batch; 1 where their sizes may differ.
        collate: Function that makes a batch of samples.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=collate,
        # Without its own generator the loader draws from the global one.
        generator=torch.Generator(),
    )


def seeded_images(dataset: Dataset, indices: Sequence[int]) -> Subset:
    """Return some images of a view, each with its own random numbers, the same at every pass.

    Args:
        dataset: A view of the data at a step.
        indices: Indices of the images.
    """
    keys: list[Any] = [SampleKey(index, index) for index in indices]
    return Subset(dataset, keys)
