"""Optimizers and schedules that MMEngine does not have."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.optim.own_optimizers import JointOptimizer, RegulariserOptimWrapperConstructor
from mmseg_cil.optim.poly_schedule import PaperPolyLR

__all__ = ['JointOptimizer', 'PaperPolyLR', 'RegulariserOptimWrapperConstructor']
