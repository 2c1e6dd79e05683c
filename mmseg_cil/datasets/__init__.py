"""Data at a step: class index, dataset view, sampler, label map, embedded dataset."""

from .. import registry  # noqa: F401  (imports MMSegmentation, first of all)
from .class_index import ClassIndex, load_or_build_index
from .embedded import EmbeddedShapesDataset
from .exemplar_memory import ExemplarMemory, MemorySettings
from .layouts import LayoutDataset
from .mask_ids import check_mask_ids
from .replay_sampler import ReplaySampler
from .resized_crops import RandomResizedCrop, ResizedCenterCrop
from .sampler import GlobalPositionSampler, SampleKey
from .transforms import MapLabels, map_labels
from .view import IncrementalDataset

__all__ = [
    'ClassIndex',
    'EmbeddedShapesDataset',
    'ExemplarMemory',
    'GlobalPositionSampler',
    'IncrementalDataset',
    'LayoutDataset',
    'MapLabels',
    'MemorySettings',
    'RandomResizedCrop',
    'ReplaySampler',
    'ResizedCenterCrop',
    'SampleKey',
    'check_mask_ids',
    'load_or_build_index',
    'map_labels',
]
