"""REMINDER: class-similarity weighted knowledge distillation (Phan et al., CVPR 2022), on PLOP.

* ``similarity``: mean embeddings of classes, their similarity to prototypes of old classes, and
  the distillation that this similarity weighs.
* ``prototypes``: the prototypes of a step's classes, and their file.
* ``hook``: keeps the prototypes after a step, and hands those of earlier steps to the distiller.
* ``distiller``: the part of a method's config.
* ``reference``: prototypes, similarity and distillation, stated plainly.

Pseudo-labels, Local POD and the initialisation of new rows are those of PLOP.
"""

from mmseg_cil.methods.reminder.distiller import ClassSimilarityDistiller
from mmseg_cil.methods.reminder.hook import ReminderPrototypesHook

__all__ = ['ClassSimilarityDistiller', 'ReminderPrototypesHook']
