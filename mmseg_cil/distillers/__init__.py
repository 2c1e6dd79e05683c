"""Distillers, which feed a loss with outputs of student and teacher."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.distillers.logit_distiller import LogitDistiller

__all__ = [
    'LogitDistiller',
]
