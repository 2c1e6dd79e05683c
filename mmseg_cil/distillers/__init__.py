"""What feeds a loss: which of the student's and the teacher's outputs it compares."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.distillers.logit_distiller import LogitDistiller

__all__ = [
    'LogitDistiller',
]
