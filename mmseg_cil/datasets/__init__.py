"""Data at a step: class index, dataset view, sampler, label map, embedded dataset."""

import mmseg.datasets  # noqa: F401  (registers the datasets and transforms that configs name)

from .class_index import ClassIndex, check_mask_ids, load_or_build_index
from .embedded import EmbeddedShapesDataset
from .sampler import GlobalPositionSampler, SampleKey
from .transforms import MapLabels, map_labels
from .view import IncrementalDataset

__all__ = [
    'ClassIndex',
    'EmbeddedShapesDataset',
    'GlobalPositionSampler',
    'IncrementalDataset',
    'MapLabels',
    'SampleKey',
    'check_mask_ids',
    'load_or_build_index',
    'map_labels',
]
