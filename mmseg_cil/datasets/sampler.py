"""A sampler that gives every sample its position in the training stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sized
from typing import NamedTuple

from mmengine.dataset import InfiniteSampler

from mmseg_cil.errors import InputError
from mmseg_cil.registry import DATA_SAMPLERS


class SampleKey(NamedTuple):
    """The key with which :class:`GlobalPositionSampler` asks a dataset for a sample.

    Attributes:
        index: Index of the image.
        position: Position of the sample in the stream of all ranks, from 0.
            It seeds the random augmentation (see :class:`IncrementalDataset`).
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    position: int


@DATA_SAMPLERS.register_module()
class GlobalPositionSampler(InfiniteSampler):
    """An ``InfiniteSampler`` of MMEngine that yields image and position.

    Rank r of W gets the positions r, r + W, r + 2W, ... of one stream, so W
    ranks with batches of B see in each iteration the very samples that one
    process sees with a batch of W * B.

    Args:
        dataset: Any object with a length.
        shuffle: Whether to draw a new order for every pass.
        seed: The seed of the orders, the same on all ranks. None: a seed is drawn, and
            all ranks use the same one.
        whole_batches: Size of a batch over all ranks. The images of a pass that do not fill such
            a batch are dropped, as ``DataLoader(drop_last=True)`` does in every epoch, unless a
            pass has less than one batch. 0: nothing is dropped, and batches go over the end of a
            pass.

    Raises:
        InputError: ``whole_batches`` is negative.
    """

    def __init__(
        self, dataset: Sized, shuffle: bool = True, seed: int | None = None, whole_batches: int = 0
    ) -> None:
        super().__init__(dataset, shuffle, seed)
        if whole_batches < 0:
            raise InputError(f'GlobalPositionSampler: whole_batches must not be {whole_batches}')
        self.whole_batches = whole_batches

    def _infinite_indices(self) -> Iterator[int]:
        indices: Iterator[int] = super()._infinite_indices()
        rest = self.size % self.whole_batches if self.whole_batches else 0
        if not rest or self.size < self.whole_batches:
            yield from indices
        while True:
            yield from itertools.islice(indices, self.size - rest)
            next(itertools.islice(indices, rest - 1, None))  # passed over

    def _indices_of_rank(self) -> Iterator[SampleKey]:
        if self.size == 0:
            raise InputError('the training dataset is empty: this step cannot be trained')
        stream = enumerate(self._infinite_indices())
        for position, index in itertools.islice(stream, self.rank, None, self.world_size):
            yield SampleKey(index, position)

    def skip(self, num_samples: int) -> None:
        """Move to an absolute position of this rank's stream, for resuming.

        The contract is that of ``InfiniteSampler.skip`` of onedl-mmengine (0.10.12,
        mmengine/dataset/sampler.py), because MMEngine 0.10.7 has no such method.

        Args:
            num_samples: Number of samples that this rank has consumed since the start.

        Raises:
            ValueError: ``num_samples`` is negative.
        """
        if num_samples < 0:
            raise ValueError(f'cannot skip {num_samples} samples: must not be negative')
        self.indices = itertools.islice(self._indices_of_rank(), num_samples, None)
