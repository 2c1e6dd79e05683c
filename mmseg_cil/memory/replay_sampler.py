"""A sampler that replays exemplars at a given rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from mmseg_cil.datasets.sampler import GlobalPositionSampler
from mmseg_cil.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class ReplaySampler(GlobalPositionSampler):
    """A :class:`GlobalPositionSampler` whose samples are exemplars with a given probability.

    The step's own images and the exemplars are each shuffled and passed through
    without end; which of the two comes next is drawn for every position of the
    one stream that all ranks share. Where there are only images of one kind,
    all samples are of that kind.

    Args:
        dataset: An :class:`IncrementalDataset`: the step's own images, then
            the exemplars.
        ratio: Probability of an exemplar, in (0, 1).
        shuffle: See :class:`GlobalPositionSampler`.
        seed: See :class:`GlobalPositionSampler`.
    """

    def __init__(
        self, dataset: Any, ratio: float, shuffle: bool = True, seed: int | None = None
    ) -> None:
        super().__init__(dataset, shuffle, seed)
        self.ratio = ratio
        self.num_own: int = dataset.num_own

    def _infinite_indices(self) -> Iterator[int]:
        count = self.size - self.num_own
        if not count or not self.num_own:
            yield from super()._infinite_indices()
        generator = torch.Generator()
        generator.manual_seed(self.seed)
        own = self._passes(0, self.num_own, generator)
        exemplars = self._passes(self.num_own, count, generator)
        while True:
            is_exemplar = float(torch.rand((), generator=generator)) < self.ratio
            yield next(exemplars if is_exemplar else own)

    def _passes(self, first: int, count: int, generator: torch.Generator) -> Iterator[int]:
        while True:
            order = (
                torch.randperm(count, generator=generator) if self.shuffle else torch.arange(count)
            )
            yield from (order + first).tolist()
