"""The incremental segmentor."""

from mmseg_cil.models.segmentors.incremental_encoder_decoder import IncrementalEncoderDecoder

__all__ = ['IncrementalEncoderDecoder']
