"""LwF, LwF-MC, iCaRL and ILT: distillation of logits and features.

* LwF (Li and Hoiem, ECCV 2016, equation 2): ``lwf``, softened probabilities of the old classes.
* LwF-MC and iCaRL (Rebuffi et al., CVPR 2017; fcdl94/MiB ``train.py``): ``lwf_mc`` and
  ``icarl``, sigmoids in place of a softmax; :mod:`mmseg_cil.memory` keeps iCaRL's exemplars.
* ILT (Michieli and Zanuttigh, ICCV workshops 2019): LwF's loss and ``ilt``, the squared
  distance of feature maps; ``ilt_distiller`` passes the feature maps to that loss.
"""

from mmseg_cil.methods.baselines.icarl import ICaRLLoss
from mmseg_cil.methods.baselines.ilt import FeatureDistillationLoss
from mmseg_cil.methods.baselines.ilt_distiller import FeatureDistiller
from mmseg_cil.methods.baselines.lwf import KnowledgeDistillationLoss
from mmseg_cil.methods.baselines.lwf_mc import SigmoidCrossEntropyLoss, SigmoidDistillationLoss

__all__ = [
    'FeatureDistillationLoss',
    'FeatureDistiller',
    'ICaRLLoss',
    'KnowledgeDistillationLoss',
    'SigmoidCrossEntropyLoss',
    'SigmoidDistillationLoss',
]
