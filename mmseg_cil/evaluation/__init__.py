"""What a walk is measured by."""

import mmseg.evaluation  # noqa: F401

from mmseg_cil.evaluation.incremental_iou import IncrementalIoUMetric
from mmseg_cil.evaluation.walk_metrics import assemble_metrics, write_metrics

__all__ = ['IncrementalIoUMetric', 'assemble_metrics', 'write_metrics']
