"""Self-labels: what the network, as it stands before a step, says of the step's images; ours.

* ``hook``: labels the images once before a step, keeps the maps in a temporary folder of the step
  and removes it afterwards; thresholds are PLOP's (Douillard et al., CVPR 2021, section 3.3).
* ``files`` and ``label_map``: the maps in files, and in the training pipeline, where they follow
  crops and flips.
* ``loss``: cross-entropy on sure pixels, MiB's unbiased one (Cermelli et al., CVPR 2020,
  equation 5) on the others.
"""

from mmseg_cil.methods.self_labels.hook import SelfLabelsHook
from mmseg_cil.methods.self_labels.label_map import SelfLabelMap
from mmseg_cil.methods.self_labels.loss import SelfLabelCrossEntropyLoss

__all__ = ['SelfLabelCrossEntropyLoss', 'SelfLabelMap', 'SelfLabelsHook']
