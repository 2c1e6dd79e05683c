"""A hinge on the rows of new classes, over stored mean embeddings of each earlier class; ours.

* ``class_means``: the mean embeddings of each class, and the file of a step's means.
* ``clusters``: the centres of clusters of a class's embeddings, where it has several means.
* ``hook``: computes the means after a step and hands those of earlier steps to the regulariser.
* ``regulariser``: new classes must not score above an earlier class at that class's mean.
* ``reference``: the formula in a few plain lines.
"""

from mmseg_cil.methods.hinge.hook import ClassMeansHook
from mmseg_cil.methods.hinge.regulariser import HingeRegulariser

__all__ = ['ClassMeansHook', 'HingeRegulariser']
