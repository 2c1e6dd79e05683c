"""DF-GR with DT-ID (Choi, El-Khamy and Lee, CVPR workshops 2021, arXiv 2106.09835).

The paper is on classification and has no code; ``configs/dfgr/README.md`` says which parts are
ours. Each formula has one form, the one used in training, so there is no ``reference`` module.

* ``generator_sub_step``, ``generator_training``, ``generator_losses``, ``layout_generator``,
  ``layouts`` and ``norm_tap``: a generator learns from the last segmentor alone.
* ``generated_replay``: adds the generator's images to the batches of training;
  ``generator_samples`` shows these images.
* ``new_data_sub_step``, ``new_data_segmentor``, ``dual_teacher`` and ``dual_teacher_distiller``:
  DT-ID, a second teacher of the new classes (form of Ahn et al., CVPR 2019, equation 6).
"""

from mmseg_cil.methods.dfgr.dual_teacher_distiller import DualTeacherDistiller
from mmseg_cil.methods.dfgr.generated_replay import GeneratedReplay
from mmseg_cil.methods.dfgr.generator_sub_step import GeneratorSubStep
from mmseg_cil.methods.dfgr.generator_training import GeneratorTraining
from mmseg_cil.methods.dfgr.layout_generator import LayoutGenerator
from mmseg_cil.methods.dfgr.layouts import LayoutDataset
from mmseg_cil.methods.dfgr.new_data_segmentor import (
    NewDataCascadeEncoderDecoder,
    NewDataEncoderDecoder,
)
from mmseg_cil.methods.dfgr.new_data_sub_step import NewDataSubStep

__all__ = [
    'DualTeacherDistiller',
    'GeneratedReplay',
    'GeneratorSubStep',
    'GeneratorTraining',
    'LayoutDataset',
    'LayoutGenerator',
    'NewDataCascadeEncoderDecoder',
    'NewDataEncoderDecoder',
    'NewDataSubStep',
]
