"""Self-labels: labels of a step's images by the network that the step begins with; ours.

* ``labelling``: labels the images once before a step, keeps the labels in a temporary folder of
  the step and removes the folder afterwards; ``files`` is that folder.
* ``hook``, ``label_map``, ``loss``: hard labels where the network is sure, by PLOP's thresholds
  (Douillard et al., CVPR 2021, section 3.3), with cross-entropy at these pixels and MiB's
  unbiased cross-entropy (Cermelli et al., CVPR 2020, equation 5) at the other pixels.
* ``soft``, ``soft_loss``: the greatest probabilities of each cell of an image, and MiB's
  distillation (equations 7 and 8) towards these probabilities.

In the training pipeline the maps of labels follow crops and flips.
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
