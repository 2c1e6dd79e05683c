"""DKD: densely distilling cumulative knowledge (Shi et al., arXiv 2405.09820, 2024).

No code is public; ``configs/dkd/README.md`` says what is published and what is ours.

* ``loss``: divergences over groups of classes, one a set of earlier steps; ``task_pool``: which
  groups there are; ``group_divergence``: all of them from a few maps.
* ``weights``: how strongly a step distils, from its class counts and its classifier.
"""

from mmseg_cil.methods.dkd.loss import DenseKnowledgeDistillationLoss

__all__ = [
    'DenseKnowledgeDistillationLoss',
]
