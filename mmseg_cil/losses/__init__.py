"""Loss functions and their registered modules."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.losses.pseudo_label_cross_entropy import PseudoLabelCrossEntropyLoss
from mmseg_cil.losses.unbiased_cross_entropy import (
    UnbiasedCrossEntropyLoss,
    unbiased_cross_entropy,
)
from mmseg_cil.losses.unbiased_knowledge_distillation import (
    UnbiasedKnowledgeDistillationLoss,
    unbiased_knowledge_distillation,
)

__all__ = [
    'PseudoLabelCrossEntropyLoss', 'UnbiasedCrossEntropyLoss', 'UnbiasedKnowledgeDistillationLoss',
    'unbiased_cross_entropy', 'unbiased_knowledge_distillation'
]
