"""UCD: uncertainty-aware contrastive distillation (Yang et al., TPAMI 2022).

* ``cells``: the cells that are compared: their embeddings, labels and the teacher's probabilities.
* ``pairs``: the loss over all pairs of cells, a chunk of anchors at a time.
* ``distiller``: the part of a method's config.

All else is MiB's, or PLOP's.
"""

from mmseg_cil.methods.ucd.distiller import PixelContrastDistiller

__all__ = [
    'PixelContrastDistiller',
]
