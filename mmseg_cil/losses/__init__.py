"""Loss functions and their registered modules."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.losses.kept_losses import MergedBackgroundLoss, SummedLoss, VisibleClassesLoss

__all__ = [
    'MergedBackgroundLoss',
    'SummedLoss',
    'VisibleClassesLoss',
]
