"""What a method trains of its own beside the network of a step.

A method lists its sub-steps in ``method.sub_steps``, each a config of a class
registered in :data:`mmseg_cil.registry.SUB_STEPS` (see
:class:`~mmseg_cil.engine.sub_steps.base.SubStep`).
"""

from mmseg_cil.engine.sub_steps.base import SubStep, SubStepInputs
from mmseg_cil.engine.sub_steps.generator import GeneratorSubStep
from mmseg_cil.engine.sub_steps.new_data import NewDataSubStep
from mmseg_cil.engine.sub_steps.prune import PruneSnapshot

__all__ = ['GeneratorSubStep', 'NewDataSubStep', 'PruneSnapshot', 'SubStep', 'SubStepInputs']
