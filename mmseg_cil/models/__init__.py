"""Networks: the incremental segmentor, its teachers and its growing classifier."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.models.branches import ParallelBranches
from mmseg_cil.models.rotation import RotationSelfSupervision
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder

__all__ = ['IncrementalEncoderDecoder', 'ParallelBranches', 'RotationSelfSupervision']
