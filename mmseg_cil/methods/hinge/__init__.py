"""A hinge on the rows of new classes, over one stored mean embedding of each earlier class; ours.

* ``class_means``: the mean embeddings of each class, and the file of a step's means.
* ``hook``: computes the means after a step and hands those of earlier steps to the regulariser.
* ``regulariser``: new classes must not score above an earlier class at that class's mean.
"""

from mmseg_cil.methods.hinge.hook import ClassMeansHook
from mmseg_cil.methods.hinge.regulariser import HingeRegulariser

__all__ = ['ClassMeansHook', 'HingeRegulariser']
