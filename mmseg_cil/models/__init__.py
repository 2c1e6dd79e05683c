"""Networks: the incremental segmentor, its teachers and its growing classifier."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.models.future_rows import FutureRows
from mmseg_cil.models.papers import LeakyResNet, PaperASPPHead
from mmseg_cil.models.segmentors import (
    IncrementalCascadeEncoderDecoder,
    IncrementalEncoderDecoder,
)

__all__ = [
    'FutureRows',
    'IncrementalCascadeEncoderDecoder',
    'IncrementalEncoderDecoder',
    'LeakyResNet',
    'PaperASPPHead',
]
