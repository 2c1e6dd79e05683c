"""DKD: densely distilling cumulative knowledge (Shi et al., arXiv 2405.09820, 2024).

No code is public; ``configs/dkd/README.md`` says which parts are published and which are ours.

* ``loss``: divergences over groups of classes, one group per set of earlier steps;
  ``task_pool``: the pool of groups; ``group_divergence``: the divergences of all groups from a
  few maps.
* ``weights``: the adaptive weight of the loss, from a step's class counts and its classifier.
"""

from mmseg_cil.methods.dkd.loss import DenseKnowledgeDistillationLoss

__all__ = [
    'DenseKnowledgeDistillationLoss',
]
