"""Test batches whose images are of different sizes."""

from __future__ import annotations

from collections.abc import Callable

from mmseg.structures import SegDataSample
from torch import Tensor

#: A batch as MMEngine's ``BaseModel`` takes it: the output of a collate function.
TestBatch = dict | tuple | list


class MixedSizes:
    """A mixin for segmentors of MMEngine that predicts images of different sizes separately.

    MMSegmentation refuses a test batch of images of several sizes, and ends in the middle of
    a test. This mixin splits the batch into one batch per size; a batch of one size stays whole.
    """

    def val_step(self, data: TestBatch) -> list[SegDataSample]:
        """Predict a batch; see MMEngine's ``BaseModel``."""
        return _in_order(super().val_step, data)  # type: ignore[misc]

    def test_step(self, data: TestBatch) -> list[SegDataSample]:
        """Predict a batch; see MMEngine's ``BaseModel``."""
        return _in_order(super().test_step, data)  # type: ignore[misc]


def _in_order(
    predict: Callable[[TestBatch], list[SegDataSample]], data: TestBatch
) -> list[SegDataSample]:
    """Return the predictions of ``predict`` for each image, in the order of the batch."""
    groups = _same_sizes(data)
    if len(groups) < 2 or not isinstance(data, dict):
        result: list[SegDataSample] = predict(data)
        return result
    found: dict[int, SegDataSample] = {}
    for places in groups:
        part = {key: [values[place] for place in places] for key, values in data.items()}
        found.update(zip(places, predict(part), strict=True))
    return [found[place] for place in range(len(found))]


def _same_sizes(data: TestBatch) -> list[list[int]]:
    """Return the places of the images of each size; none if a batch is not a dict of lists."""
    if not isinstance(data, dict) or not all(isinstance(values, list) for values in data.values()):
        return []
    groups: dict[tuple, list[int]] = {}
    for place, image in enumerate(data.get('inputs', [])):
        if not isinstance(image, Tensor):
            return []
        groups.setdefault(tuple(image.shape), []).append(place)
    return list(groups.values())
