"""LGKD: label-guided knowledge distillation (Yang et al., ICCV 2023).

* ``label_guided``: the distillation in which the labels say to which new class the teacher's
  background belongs.
* ``distiller``: the part of a method's config, which compares the classifier's own outputs.

Pseudo-labels, Local POD and the initialisation of new rows are those of PLOP, or of MiB.
"""

from mmseg_cil.methods.lgkd.distiller import LabelGuidedDistiller

__all__ = [
    'LabelGuidedDistiller',
]
