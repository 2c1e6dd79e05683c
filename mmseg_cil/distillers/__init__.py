"""What feeds a loss: which of the student's and the teacher's outputs it compares."""

from mmseg_cil import registry  # noqa: F401  (imports MMSegmentation, first of all)
from mmseg_cil.distillers.dual_teacher_distiller import DualTeacherDistiller
from mmseg_cil.distillers.feature_distiller import FeatureDistiller
from mmseg_cil.distillers.local_pod_distiller import LocalPODDistiller
from mmseg_cil.distillers.logit_distiller import LogitDistiller
from mmseg_cil.distillers.m2kd_distiller import M2KDDistiller
from mmseg_cil.distillers.pooled_cube_distiller import PooledCubeDistiller

__all__ = [
    'DualTeacherDistiller',
    'FeatureDistiller',
    'LocalPODDistiller',
    'LogitDistiller',
    'M2KDDistiller',
    'PooledCubeDistiller',
]
