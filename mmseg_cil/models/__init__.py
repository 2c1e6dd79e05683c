"""Networks: the incremental segmentor, its teachers and its growing classifier."""

import mmseg.models  # noqa: F401  (registers the parts that configs name)

from mmseg_cil.models.segmentors import IncrementalEncoderDecoder

__all__ = ['IncrementalEncoderDecoder']
