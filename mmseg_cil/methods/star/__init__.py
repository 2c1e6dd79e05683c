"""STAR (Chen et al., NeurIPS 2023): replay of old classes as drawn embeddings.

* ``statistics``: prototype, noise, lengths and numbers of cells of each class, kept by each step.
* ``replay``: how many embeddings are drawn, and how.
* ``loss``: the cross-entropy of new outputs on pixels, drawn embeddings and background.
* ``distiller``: embeddings kept where the teacher sees old classes, and away from prototypes.
* ``rows``: how new rows begin, and their rate.
* ``hook``: the passes over a step's images.
* ``reference``: all of it, stated plainly.

The outputs are those of ``dkd_decomposed``, without an auxiliary row.
"""

from mmseg_cil.methods.star.distiller import StarDistiller
from mmseg_cil.methods.star.hook import StarStatisticsHook
from mmseg_cil.methods.star.loss import ReplayedCrossEntropyLoss
from mmseg_cil.methods.star.rows import KaimingRows

__all__ = [
    'KaimingRows',
    'ReplayedCrossEntropyLoss',
    'StarDistiller',
    'StarStatisticsHook',
]
