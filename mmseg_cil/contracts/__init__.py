"""The contracts: the parts that a method may have, and the moments at which they are called.

A method is a config (``method = dict(...)``) that names parts. Each part derives from one of
the classes below and overrides the methods that it needs; all others do nothing by default. A
public name that no contract knows, but that looks like a contract's name (``set_steps``,
``reads_teachers``), is refused when the part is built
(:func:`~mmseg_cil.contracts.check.check_part`).

===================  ====================================================================
Key of the method    Contract
===================  ====================================================================
``loss_decode``      Any loss of MMSegmentation's form. A loss that needs to know the step
                     derives from :class:`HeadLoss`; a loss that shares the pixels of a
                     head with other losses is a :class:`PixelLoss`, most easily a
                     :class:`~mmseg_cil.losses.decode_loss.DecodeLoss`.
``distillers``       :class:`Distiller`, called with a :class:`Batch` of what it
                     :class:`Needs`. Its own loss, if it has one, derives from
                     :class:`ComparisonLoss`; a loss of logits from
                     :class:`~mmseg_cil.losses.distillation_loss.DistillationLoss`.
``regularisers``     :class:`Regulariser`.
``self_supervision`` :class:`SelfSupervision`.
``network_change``   :class:`NetworkChange`.
``classifier_init``  :class:`ClassifierInit`.
``freezing``         :class:`Freezing`: statistics and parameters that stand still in later
                     steps, or learn at another rate, by the names of their modules.
``teacher_form``     :class:`TeacherForm`: a cheaper form in which the teachers run.
``prediction``       :class:`PredictionRule`.
``further_map``      :class:`FurtherMap`.
``custom_hooks``     Any hook of MMEngine; a hook that keeps something of a finished step, or
                     changes the step's weights before that, derives from :class:`StepHook`.
``memory``           :class:`~mmseg_cil.memory.memory.MemorySettings` of the exemplars.
``teachers``         'all' for the networks of all earlier steps; ``teacher_draw`` of
                     them run for a batch.
``sub_steps``        :class:`~mmseg_cil.engine.sub_steps.SubStep`, which may hand a
                     :class:`Replay` or further teachers to its step.
===================  ====================================================================

All parts are built once a step, before any weights are read. ``attach`` and ``set_step`` are
called next, then the weights are read, then the step is trained.
"""

from mmseg_cil.contracts.freezing import Freezing
from mmseg_cil.contracts.hooks import StepHook, network_of
from mmseg_cil.contracts.losses import (
    ComparisonLoss,
    Distiller,
    HeadLoss,
    IterationSeeded,
    MethodPart,
    PixelLoss,
    Regulariser,
)
from mmseg_cil.contracts.network import (
    ClassifierInit,
    FurtherMap,
    NetworkChange,
    PredictionRule,
    Replay,
    SelfSupervision,
)
from mmseg_cil.contracts.records import Batch, DataBatch, Features, Needs, NetworkOutput
from mmseg_cil.contracts.teacher_form import TeacherForm

__all__ = [
    'Batch',
    'ClassifierInit',
    'ComparisonLoss',
    'DataBatch',
    'Distiller',
    'Features',
    'Freezing',
    'FurtherMap',
    'HeadLoss',
    'IterationSeeded',
    'MethodPart',
    'Needs',
    'NetworkChange',
    'NetworkOutput',
    'PixelLoss',
    'PredictionRule',
    'Regulariser',
    'Replay',
    'SelfSupervision',
    'StepHook',
    'TeacherForm',
    'network_of',
]
