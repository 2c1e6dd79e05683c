"""The data of a step: class index, dataset view, sampler, label map, embedded dataset."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.datasets.class_index import ClassIndex, load_or_build_index
from mmseg_cil.datasets.embedded import EmbeddedShapesDataset
from mmseg_cil.datasets.mask_ids import check_mask_ids
from mmseg_cil.datasets.random_crop import RandomCrop
from mmseg_cil.datasets.resized_crops import RandomResizedCrop, ResizedCenterCrop
from mmseg_cil.datasets.sampler import GlobalPositionSampler, SampleKey
from mmseg_cil.datasets.transforms import MapLabels, map_labels
from mmseg_cil.datasets.view import IncrementalDataset

__all__ = [
    'ClassIndex',
    'EmbeddedShapesDataset',
    'GlobalPositionSampler',
    'IncrementalDataset',
    'MapLabels',
    'RandomCrop',
    'RandomResizedCrop',
    'ResizedCenterCrop',
    'SampleKey',
    'check_mask_ids',
    'load_or_build_index',
    'map_labels',
]
