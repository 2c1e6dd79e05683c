"""RCIL: representation compensation (Zhang et al., CVPR 2022).

* ``parallel_branches``, ``parallel_conv`` and ``merge``: a trained and a frozen branch in
  parallel, merged into one convolution after the step (section 3.2).
* ``pooled_cube`` and ``distiller``: maps pooled over squares and over channels (section 3.3).
"""

from mmseg_cil.methods.rcil.distiller import PooledCubeDistiller
from mmseg_cil.methods.rcil.parallel_branches import ParallelBranches

__all__ = [
    'ParallelBranches',
    'PooledCubeDistiller',
]
