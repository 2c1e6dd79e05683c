"""SDR: sparse and disentangled representations (Michieli and Zanuttigh, CVPR 2021).

* ``class_sums``: sums of features over the cells of each class, over all processes.
* ``terms``: the four losses of the features: matching, attraction, separation, sparsity.
* ``prototypes``: the mean features of each class over all iterations, and the file of a step.
* ``hook``: gathers prototypes where no distiller does, resumes them, and hands them on.
* ``distiller``: the part of a method's config.

Cross-entropy and distillation of outputs are MiB's.
"""

from mmseg_cil.methods.sdr.distiller import RepresentationDistiller
from mmseg_cil.methods.sdr.hook import PrototypesHook

__all__ = [
    'PrototypesHook',
    'RepresentationDistiller',
]
