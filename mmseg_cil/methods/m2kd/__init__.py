"""M2KD: multi-model and multi-level distillation (Zhou et al., arXiv 1904.01769, 2019).

No formula is public; ``configs/m2kd/README.md`` says which parts are known and which are ours.

* ``loss``, ``distiller`` and ``class_view``: the snapshot of every earlier step teaches the
  classes that the snapshot knew.
* ``prune_sub_step``, ``pruning_mask_hook``, ``weight_owners`` and ``packed_snapshots``: all
  snapshots stored as one pruned network (Mallya and Lazebnik, PackNet, CVPR 2018, section 3).
"""

from mmseg_cil.methods.m2kd.distiller import M2KDDistiller
from mmseg_cil.methods.m2kd.loss import MatchingDistillationLoss
from mmseg_cil.methods.m2kd.packed_snapshots import read_packed_snapshot
from mmseg_cil.methods.m2kd.prune_sub_step import PruneSnapshot
from mmseg_cil.methods.m2kd.pruning_mask_hook import PruningMaskHook

__all__ = [
    'M2KDDistiller',
    'MatchingDistillationLoss',
    'PruneSnapshot',
    'PruningMaskHook',
    'read_packed_snapshot',
]
