"""Decomposed knowledge distillation (Baek et al., NeurIPS 2022), named apart from dense DKD.

* ``loss``: the losses on labels, of new outputs and of the auxiliary output; what they share with
  other methods is in ``mmseg_cil.losses.foreground``.
* ``distiller``: the distillation of logits and of their positive and negative reasons.
* ``network_change``: the zero row of the background, and the auxiliary row in training.
* ``rows``: the initialisation 'rare', for new rows without an auxiliary row.
* ``reference``: losses, decomposition and prediction, stated plainly.
"""

from mmseg_cil.methods.dkd_decomposed.distiller import DecomposedDistiller
from mmseg_cil.methods.dkd_decomposed.loss import AuxiliaryOutputLoss, ForegroundCrossEntropyLoss
from mmseg_cil.methods.dkd_decomposed.network_change import ForegroundRows
from mmseg_cil.methods.dkd_decomposed.rows import RareRows

__all__ = [
    'AuxiliaryOutputLoss',
    'DecomposedDistiller',
    'ForegroundCrossEntropyLoss',
    'ForegroundRows',
    'RareRows',
]
