"""The visualizer before training: its parts, and the packages that they need."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.visualization import Visualizer

from mmseg_cil.engine.config.step_visualizer import forget_instances, visualizer_of_step
from mmseg_cil.engine.preflight.building import part, require_type
from mmseg_cil.errors import InputError
from mmseg_cil.registry import VISBACKENDS, VISUALIZERS
from mmseg_cil.utils.later_figure import figures_later

#: The modules that MMEngine's backends import at their first use (so after the network is built),
#: and the packages that provide them.
PACKAGES = {
    'TensorboardVisBackend': {'tensorboard': 'tensorboard'},
    'WandbVisBackend': {'wandb': 'wandb'},
    'MLflowVisBackend': {'mlflow': 'mlflow'},
    'ClearMLVisBackend': {'clearml': 'clearml'},
    'NeptuneVisBackend': {'neptune': 'neptune'},
    'DVCLiveVisBackend': {'pygit2': 'pygit2', 'dvclive': 'dvclive'},
    'AimVisBackend': {'aim': 'aim'},
}


def check_visualizer(cfg: Config) -> None:
    """Check that the visualizer can be built and that the packages of its backends are installed.

    Args:
        cfg: Config of a step.

    Raises:
        InputError: The visualizer cannot be built, or a package is missing.
    """
    visualizer = cfg.get('visualizer')
    if visualizer is None:
        return
    if not isinstance(visualizer, Mapping):
        raise InputError(
            f'visualizer is {visualizer!r}; it must be a config, such as '
            "dict(type='SegLocalVisualizer', name='visualizer', "
            "vis_backends=[dict(type='LocalVisBackend')]), or None"
        )
    require_type(VISUALIZERS, visualizer.get('type'), 'visualizer')
    backends = visualizer.get('vis_backends') or []
    listed = backends if isinstance(backends, (list, tuple)) else [backends]
    for i, backend in enumerate(listed):
        if isinstance(backend, Mapping):
            where = f'visualizer.vis_backends.{i}'
            require_type(VISBACKENDS, backend.get('type'), where)
            _require_packages(backend['type'], where)
    with trial_visualizer(cfg):
        pass


def _require_packages(kind: Any, where: str) -> None:
    kind = VISBACKENDS.get(kind) if isinstance(kind, str) else kind
    for base in getattr(kind, '__mro__', ()):
        for module, package in PACKAGES.get(base.__name__, {}).items():
            if importlib.util.find_spec(module) is None:
                raise InputError(
                    f'{where}: {kind.__name__} needs the package {package}, which is '
                    f'not installed: pip install {package}, or take it out of '
                    'vis_backends'
                )


@contextlib.contextmanager
def trial_visualizer(cfg: Config) -> Iterator[None]:
    """Build a config's visualizer for a ``with`` block, and forget it afterwards.

    Hooks ask for the current visualizer when they are built (``SegVisualizationHook``
    does). MMEngine's backends open nothing before they are used.

    Args:
        cfg: Config of a step.

    Raises:
        InputError: The visualizer cannot be built.
    """
    given = cfg.get('visualizer') or dict(type='Visualizer')
    with tempfile.TemporaryDirectory() as folder:
        own = visualizer_of_step(given, folder)
        own.setdefault('name', 'trial')
        own.setdefault('save_dir', folder)
        try:
            with part('visualizer'), figures_later():
                VISUALIZERS.build(own)
            yield
        finally:
            forget_instances(Visualizer)
