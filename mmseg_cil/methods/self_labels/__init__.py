"""Self-labels: what the network, as it stands before a step, says of the step's images; ours.

* ``labelling``: labels the images once before a step, keeps the labels in a temporary folder of
  the step and removes it afterwards; ``files`` is that folder.
* ``hook``, ``label_map``, ``loss``: hard labels where the network is sure, by PLOP's thresholds
  (Douillard et al., CVPR 2021, section 3.3), with cross-entropy there and MiB's unbiased one
  (Cermelli et al., CVPR 2020, equation 5) on the other pixels.
* ``soft``, ``soft_loss``: the greatest probabilities of each cell of an image, and MiB's
  distillation (equations 7 and 8) towards them.

Maps of the training pipeline follow crops and flips.
"""

from mmseg_cil.methods.self_labels.hook import SelfLabelsHook
from mmseg_cil.methods.self_labels.label_map import SelfLabelMap
from mmseg_cil.methods.self_labels.loss import SelfLabelCrossEntropyLoss
from mmseg_cil.methods.self_labels.soft import SelfLabelCells, SoftSelfLabelsHook
from mmseg_cil.methods.self_labels.soft_loss import SoftSelfLabelLoss

__all__ = [
    'SelfLabelCells',
    'SelfLabelCrossEntropyLoss',
    'SelfLabelMap',
    'SelfLabelsHook',
    'SoftSelfLabelLoss',
    'SoftSelfLabelsHook',
]
