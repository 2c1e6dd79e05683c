"""Networks: the incremental segmentor, its teachers and its growing classifier."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.models.branches import ParallelBranches
from mmseg_cil.models.generators import GeneratedReplay, GeneratorTraining, LayoutGenerator
from mmseg_cil.models.new_data import NewDataCascadeEncoderDecoder, NewDataEncoderDecoder
from mmseg_cil.models.papers import LeakyResNet, PaperASPPHead
from mmseg_cil.models.rotation import RotationSelfSupervision
from mmseg_cil.models.segmentors import (
    IncrementalCascadeEncoderDecoder,
    IncrementalEncoderDecoder,
)

__all__ = [
    'GeneratedReplay',
    'GeneratorTraining',
    'IncrementalCascadeEncoderDecoder',
    'IncrementalEncoderDecoder',
    'LayoutGenerator',
    'LeakyResNet',
    'NewDataCascadeEncoderDecoder',
    'NewDataEncoderDecoder',
    'PaperASPPHead',
    'ParallelBranches',
    'RotationSelfSupervision',
]
