"""The evaluation of a walk: scores of every step, and metrics of the whole walk."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.evaluation.incremental_iou import IncrementalIoUMetric
from mmseg_cil.evaluation.walk_metrics import assemble_metrics, write_metrics

__all__ = ['IncrementalIoUMetric', 'assemble_metrics', 'write_metrics']
