"""Hooks that act before, during and after a step."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.hooks.finite_loss_hook import FiniteLossHook
from mmseg_cil.hooks.frozen_rows_hook import FrozenRowsHook
from mmseg_cil.hooks.imprint_classifier_hook import ImprintClassifierHook
from mmseg_cil.hooks.iteration_seed_hook import IterationSeedHook
from mmseg_cil.hooks.penalty_scale_hook import PenaltyScaleHook
from mmseg_cil.hooks.row_rate_hook import RowRateHook
from mmseg_cil.hooks.step_checkpoint_hook import StepCheckpointHook
from mmseg_cil.hooks.stop_hook import StopHook
from mmseg_cil.hooks.walk_progress_hook import WalkProgressHook

__all__ = [
    'FiniteLossHook',
    'FrozenRowsHook',
    'ImprintClassifierHook',
    'IterationSeedHook',
    'PenaltyScaleHook',
    'RowRateHook',
    'StepCheckpointHook',
    'StopHook',
    'WalkProgressHook',
]
