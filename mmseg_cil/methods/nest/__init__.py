"""NeST: new classifier pre-tuning (Xie et al., ECCV 2024), before the steps of any method.

* ``transfer``: the formulas: importance of old classes and channels, rows made of old rows, and
  the scaling of the result.
* ``selection``: a pass over a step's images with the last step's network gives the importance.
* ``classifier``: the classifier whose rows are made of old rows while it is pre-tuned.
* ``sub_step``: the training of these rows before the step, everything else frozen.
* ``rows``: the initialisation 'pre_tuned', with which the step begins.
* ``reference``: importance, transfer and scaling, stated plainly.
"""

from mmseg_cil.methods.nest.classifier import ClassifierPreTuning, PreTunedClassifier
from mmseg_cil.methods.nest.rows import PreTunedRows
from mmseg_cil.methods.nest.selection import ChannelSelectionHook
from mmseg_cil.methods.nest.sub_step import PreTuneClassifier

__all__ = [
    'ChannelSelectionHook',
    'ClassifierPreTuning',
    'PreTuneClassifier',
    'PreTunedClassifier',
    'PreTunedRows',
]
