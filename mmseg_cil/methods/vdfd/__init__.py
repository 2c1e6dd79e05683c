"""VDFD and DFD: variational data-free knowledge distillation (Li et al., TPAMI 2023).

* ``outputs``, ``gradients``, ``compression``, ``files``: the compressed gradients that a step
  keeps of its outputs; ``keeper`` computes them, and ``hook`` keeps those of a finished step and
  hands those of earlier steps to the regulariser.
* ``sketches``: the second moment of the outputs' gradients, in addition to their mean.
* ``dfd_regulariser``: outputs must not change to first order, with ``earlier_steps`` and
  ``quadratic_form``; ``reanchoring``: changes by the classifier's initialisation do not count.
* ``vdfd_regulariser``: the variational form; ``covariance`` models the covariance by a graph
  network.
* ``filters``, ``parameters``, ``stability``, ``step_sizes``: sums over filters, the regularised
  parameters, and the learning rate compared with the penalty's curvature.
* ``step_classes_cross_entropy`` and ``rotation``: the loss over a step's own classes, and the
  self-supervision that the paper trains with.
"""

from mmseg_cil.methods.vdfd.dfd_regulariser import DFDRegulariser
from mmseg_cil.methods.vdfd.hook import VDFDHook
from mmseg_cil.methods.vdfd.rotation import RotationSelfSupervision
from mmseg_cil.methods.vdfd.step_classes_cross_entropy import StepClassesCrossEntropyLoss
from mmseg_cil.methods.vdfd.vdfd_regulariser import VDFDRegulariser

__all__ = [
    'DFDRegulariser',
    'RotationSelfSupervision',
    'StepClassesCrossEntropyLoss',
    'VDFDHook',
    'VDFDRegulariser',
]
