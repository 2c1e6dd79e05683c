"""Child registries of MMSegmentation's, under the scope ``mmseg_cil``.

With ``default_scope = 'mmseg_cil'`` a config names the parts of this package and
those of MMSegmentation and MMEngine alike: a type that is not found here is looked
up in ``mmseg``, then in ``mmengine``. Every registry of MMSegmentation has a child,
also the registries to which this package adds nothing, because a default scope
without a child makes MMEngine warn at every build.
"""

from __future__ import annotations

from types import ModuleType

from mmengine.registry import Registry

from mmseg_cil.utils.deferred import deferred
from mmseg_cil.utils.quiet import import_quietly

with deferred():
    # The module object is kept, because the name ``registry`` in the package ``mmseg.registry`` is
    # its submodule.
    _MMSEG: ModuleType = import_quietly('mmseg.registry')

    # A registry looks a name up in its parent without importing the modules that register the
    # parent's parts, so these modules are imported here, once and for all.
    for _part in ('datasets', 'models', 'evaluation', 'engine', 'visualization'):
        import_quietly(f'mmseg.{_part}')

SCOPE = 'mmseg_cil'


def _child(name: str, *locations: str) -> Registry:
    parent: Registry = getattr(_MMSEG, name)
    return Registry(parent.name, parent=parent, scope=SCOPE, locations=list(locations))


MODELS = _child(
    'MODELS',
    'mmseg_cil.models',
    'mmseg_cil.losses',
    'mmseg_cil.distillers',
    'mmseg_cil.methods',
)
DATASETS = _child('DATASETS', 'mmseg_cil.datasets', 'mmseg_cil.methods')
TRANSFORMS = _child('TRANSFORMS', 'mmseg_cil.datasets', 'mmseg_cil.methods')
DATA_SAMPLERS = _child('DATA_SAMPLERS', 'mmseg_cil.datasets', 'mmseg_cil.memory.replay_sampler')
HOOKS = _child('HOOKS', 'mmseg_cil.hooks', 'mmseg_cil.methods')
METRICS = _child('METRICS', 'mmseg_cil.evaluation')

EVALUATOR = _child('EVALUATOR', 'mmseg.evaluation')
LOG_PROCESSORS = _child('LOG_PROCESSORS', 'mmseg.visualization')
LOOPS = _child('LOOPS')
MODEL_WRAPPERS = _child('MODEL_WRAPPERS')
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS', 'mmseg_cil.optim')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS', 'mmseg_cil.engine.config.mixed_precision')
OPTIMIZERS = _child('OPTIMIZERS', 'mmseg.engine.optimizers')
PARAM_SCHEDULERS = _child('PARAM_SCHEDULERS', 'mmseg.engine', 'mmseg_cil.optim.poly_schedule')
RUNNERS = _child('RUNNERS')
RUNNER_CONSTRUCTORS = _child('RUNNER_CONSTRUCTORS')
TASK_UTILS = _child('TASK_UTILS', 'mmseg.models')
VISBACKENDS = _child('VISBACKENDS', 'mmseg.visualization')
VISUALIZERS = _child('VISUALIZERS', 'mmseg.visualization')
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS')

#: Sub-steps that a method trains beside a step (:mod:`mmseg_cil.engine.sub_steps`). This registry
#: has no parent in MMSegmentation.
SUB_STEPS = Registry('sub step', scope=SCOPE, locations=['mmseg_cil.methods'])

#: Initialisations of the classifier's rows of new classes
#: (:class:`mmseg_cil.contracts.ClassifierInit`).
CLASSIFIER_INITS = Registry(
    'classifier init', scope=SCOPE, locations=['mmseg_cil.models.classifier', 'mmseg_cil.methods']
)

#: Readers of files that hold the snapshots of several steps: functions of the file's path and a
#: step that return the weights of that step's network, by the argument of a teacher.
SNAPSHOT_READERS = Registry('snapshot reader', scope=SCOPE, locations=['mmseg_cil.methods'])
