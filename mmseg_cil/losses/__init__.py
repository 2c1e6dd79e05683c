"""Loss functions and their registered modules."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.losses.dense_knowledge_distillation import (
    DenseKnowledgeDistillationLoss,
    dense_knowledge_distillation,
)
from mmseg_cil.losses.feature_distillation import FeatureDistillationLoss, feature_distillation
from mmseg_cil.losses.icarl import ICaRLLoss, icarl_loss
from mmseg_cil.losses.kept_losses import MergedBackgroundLoss, SummedLoss, VisibleClassesLoss
from mmseg_cil.losses.knowledge_distillation import (
    KnowledgeDistillationLoss,
    knowledge_distillation,
)
from mmseg_cil.losses.lwf_mc import (
    SigmoidCrossEntropyLoss,
    SigmoidDistillationLoss,
    sigmoid_cross_entropy,
    sigmoid_distillation,
)
from mmseg_cil.losses.matching_distillation import (
    MatchingDistillationLoss,
    matching_distillation,
    multi_model_distillation,
)
from mmseg_cil.losses.pseudo_label_cross_entropy import PseudoLabelCrossEntropyLoss
from mmseg_cil.losses.step_classes_cross_entropy import (
    StepClassesCrossEntropyLoss,
    step_classes_cross_entropy,
)
from mmseg_cil.losses.unbiased_cross_entropy import (
    PixelCrossEntropyLoss,
    UnbiasedCrossEntropyLoss,
    unbiased_cross_entropy,
)
from mmseg_cil.losses.unbiased_knowledge_distillation import (
    UnbiasedKnowledgeDistillationLoss,
    unbiased_knowledge_distillation,
)

__all__ = [
    'DenseKnowledgeDistillationLoss',
    'FeatureDistillationLoss',
    'ICaRLLoss',
    'KnowledgeDistillationLoss',
    'MatchingDistillationLoss',
    'MergedBackgroundLoss',
    'PixelCrossEntropyLoss',
    'PseudoLabelCrossEntropyLoss',
    'SigmoidCrossEntropyLoss',
    'SigmoidDistillationLoss',
    'StepClassesCrossEntropyLoss',
    'SummedLoss',
    'UnbiasedCrossEntropyLoss',
    'UnbiasedKnowledgeDistillationLoss',
    'VisibleClassesLoss',
    'dense_knowledge_distillation',
    'feature_distillation',
    'icarl_loss',
    'knowledge_distillation',
    'matching_distillation',
    'multi_model_distillation',
    'sigmoid_cross_entropy',
    'sigmoid_distillation',
    'step_classes_cross_entropy',
    'unbiased_cross_entropy',
    'unbiased_knowledge_distillation',
]
