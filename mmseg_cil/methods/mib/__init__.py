"""MiB: modelling the background (Cermelli et al., CVPR 2020).

* ``unbiased_cross_entropy``: the background is "old classes or background" (equation 5).
* ``unbiased_distillation``: the teacher's background is "new classes or background" (equations
  7, 8).
* The classifier's new rows start from the background's (equations 9, 10):
  ``classifier_init='balanced'`` of :mod:`mmseg_cil.models.classifier`.
"""

from mmseg_cil.methods.mib.unbiased_cross_entropy import (
    PixelCrossEntropyLoss,
    UnbiasedCrossEntropyLoss,
)
from mmseg_cil.methods.mib.unbiased_distillation import UnbiasedKnowledgeDistillationLoss

__all__ = [
    'PixelCrossEntropyLoss',
    'UnbiasedCrossEntropyLoss',
    'UnbiasedKnowledgeDistillationLoss',
]
