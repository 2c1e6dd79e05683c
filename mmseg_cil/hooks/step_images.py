"""A pass over images of a step that leaves the random streams of training alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_rank, get_world_size
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmseg_cil.contracts import DataBatch
from mmseg_cil.datasets.passes import pass_over
from mmseg_cil.datasets.pipeline import seeded
from mmseg_cil.datasets.view import IncrementalDataset


def step_batches(
    runner: Runner, max_images: int | None, batch_size: int | None = None, together: int = 1
) -> Iterable[DataBatch]:
    """Return this process's part of the step's training images, collated.

    Exemplars of earlier steps are not among them. Every image is augmented by a seed
    of its own, so the images read depend neither on the number of processes nor on
    workers.

    Args:
        runner: Runner with a built ``train_dataloader``.
        max_images: The most images to use, over all processes, spread evenly over
            the step's images. None: all.
        batch_size: Images per batch; as in the training loader by default.
        together: Number of consecutive images that one process takes, so that statistics of groups
            of images depend on no number of processes. ``batch_size`` must divide the number if
            batches are to stay within groups. Defaults to 1.
    """
    loader: DataLoader = runner.train_dataloader
    dataset = loader.dataset
    own: Sequence[int] = range(len(dataset))  # type: ignore[arg-type]
    if isinstance(dataset, IncrementalDataset):
        own = dataset.step_indices()
    chosen = [own[place] for place in spread_indices(len(own), max_images)]
    groups = [chosen[start : start + together] for start in range(0, len(chosen), together)]
    mine = [index for group in groups[get_rank() :: get_world_size()] for index in group]
    return pass_over(
        _SeededImages(dataset, mine, seed=runner.seed or 0),
        loader.num_workers,
        batch_size or loader.batch_size or 1,
        loader.collate_fn or pseudo_collate,
    )


def prepared(model: Any, batch: DataBatch) -> tuple[Tensor, Tensor]:
    """Return inputs ``(N, 3, H, W)`` and labels ``(N, 1, H, W)`` of a collated batch.

    Images are preprocessed as in training, so those smaller than the crop are padded.

    Args:
        model: Segmentor with its data preprocessor.
        batch: Samples with ``gt_sem_seg`` in model ids.
    """
    data = model.data_preprocessor(batch, True)
    labels = torch.stack([sample.gt_sem_seg.data for sample in data['data_samples']])
    return data['inputs'], labels


def images_stand_in(runner: Runner) -> bool:
    """Return whether images of a later step stand in for those of the step, which are gone.

    A step whose images are gone was trained elsewhere. The labels of the later step's images do
    not tell the step's classes.

    Args:
        runner: Runner with a built ``train_dataloader``.
    """
    dataset = runner.train_dataloader.dataset
    return isinstance(dataset, IncrementalDataset) and dataset.images_of is not None


def spread_indices(size: int, count: int | None) -> list[int]:
    """Return at most ``count`` different indices below ``size``, evenly spread, ascending."""
    if count is None or count >= size:
        return list(range(size))
    return [index * size // count for index in range(count)]


class _SeededImages(Dataset):
    """Some images of a dataset, each augmented by a seed of its own."""

    def __init__(self, dataset: Dataset, indices: Sequence[int], seed: int) -> None:
        self.dataset = dataset
        self.indices = indices
        self.seed = seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> dict[str, Any]:
        index = self.indices[position]
        with seeded(self.seed, index):
            return self.dataset[index]
