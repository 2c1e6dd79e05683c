"""The incremental segmentors."""

from mmseg_cil.models.segmentors.incremental_encoder_decoder import (
    IncrementalCascadeEncoderDecoder,
    IncrementalEncoderDecoder,
)

__all__ = ['IncrementalCascadeEncoderDecoder', 'IncrementalEncoderDecoder']
