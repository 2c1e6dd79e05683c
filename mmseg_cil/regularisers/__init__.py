"""What a method adds to the loss as a function of the weights alone.

A regulariser is a module whose ``forward(network)`` returns losses by name (and
other scalars to log, whose names do not contain "loss"; what is minimised but
has no gradient for the network has ``apart_`` in its name). The segmentor builds
those that a method lists at every step after the first and adds what they
return to its losses under the prefix ``regularise.``. Where a regulariser has

* ``attach(network)``, the segmentor calls it once, before weights are loaded;
* ``optimizer``, the config of one, its own parameters are trained by that and
  not by the network's (see
  :class:`~mmseg_cil.regularisers.own_optimizers.RegulariserOptimWrapperConstructor`).

Its parameters are saved and resumed with training, and are no part of the
checkpoint that a step leaves behind.
"""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.regularisers.dfd_regulariser import DFDRegulariser
from mmseg_cil.regularisers.own_optimizers import (
    JointOptimizer,
    RegulariserOptimWrapperConstructor,
)
from mmseg_cil.regularisers.vdfd_regulariser import VDFDRegulariser

__all__ = [
    'DFDRegulariser',
    'JointOptimizer',
    'RegulariserOptimWrapperConstructor',
    'VDFDRegulariser',
]
