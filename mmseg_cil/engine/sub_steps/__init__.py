"""Sub-steps: the trainings of a method beside the network of a step.

A method lists its sub-steps in ``method.sub_steps``, each a config of a class
registered in :data:`mmseg_cil.registry.SUB_STEPS` (see
:class:`~mmseg_cil.engine.sub_steps.base.SubStep`).
"""

from mmseg_cil.engine.sub_steps.base import SubStep, SubStepInputs

__all__ = ['SubStep', 'SubStepInputs']
