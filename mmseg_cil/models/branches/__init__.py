"""Parallel branches and their merge: what RCIL changes in the network."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.models.branches.parallel_branches import ParallelBranches

__all__ = ['ParallelBranches']
