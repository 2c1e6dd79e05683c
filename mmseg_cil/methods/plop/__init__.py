"""PLOP: learning without forgetting by pooled outputs (Douillard et al., CVPR 2021).

* ``local_pod`` and ``distiller``: Local POD, maps pooled over regions at several
  scales (equations 3 to 6).
* ``pseudo_labels`` and ``pseudo_label_loss``: the teacher labels the background at pixels where
  its uncertainty is below a threshold (equations 7 to 9).
* ``thresholds_hook``: the thresholds, the median entropy of each class (section 3.3).
"""

from mmseg_cil.methods.plop.distiller import LocalPODDistiller
from mmseg_cil.methods.plop.pseudo_label_loss import PseudoLabelCrossEntropyLoss
from mmseg_cil.methods.plop.thresholds_hook import PseudoLabelThresholdsHook

__all__ = [
    'LocalPODDistiller',
    'PseudoLabelCrossEntropyLoss',
    'PseudoLabelThresholdsHook',
]
