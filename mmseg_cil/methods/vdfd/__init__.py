"""VDFD and DFD: variational data-free knowledge distillation (Li et al., TPAMI 2023).

* ``outputs``, ``gradients``, ``compression``, ``files``: the compressed gradient that a step
  keeps of its outputs; ``keeper`` computes it, and ``hook`` does so after a step and hands it on.
* ``sketches``: the second moment of the outputs' gradients, beside their mean.
* ``dfd_regulariser``: outputs must not change to first order, with ``earlier_steps`` and
  ``quadratic_form``; ``reanchoring``: what the classifier's initialisation moves is no change.
* ``vdfd_regulariser``: the variational form; ``covariance`` models it by a graph network, with
  ``filters``, ``parameters`` and ``stability``.
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
