"""The visualizer of one step, with a folder and, at a logging service, a run of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.visualization import Visualizer

from mmseg_cil.registry import VISBACKENDS

#: The keys of a run's name in the configs of MMEngine's backends, by the name of the class.
RUN_NAMES = {
    'WandbVisBackend': ('init_kwargs', 'name'),
    'ClearMLVisBackend': ('init_kwargs', 'task_name'),
    'NeptuneVisBackend': ('init_kwargs', 'name'),
    'MLflowVisBackend': ('run_name',),
}


def kinds_of(kind: Any) -> Iterator[Any]:
    """Yield a class and all classes that are derived from it."""
    yield kind
    for derived in kind.__subclasses__():
        yield from kinds_of(derived)


def forget_instances(*kinds: type) -> None:
    """Forget the instances that MMEngine keeps by name, those of derived classes too.

    Every class keeps its instances in a dictionary of its own.
    """
    for base in kinds:
        for kind in kinds_of(base):
            kind._instance_dict.clear()


def visualizer_of_step(config: Mapping[str, Any], work_dir: str | Path) -> dict[str, Any]:
    """Return a visualizer's config with places and names that no other step has.

    A folder that the user gives holds a folder for each step; the user's name of a run
    is followed by the name of the step.

    Args:
        config: ``visualizer`` of the user's config.
        work_dir: Work directory of the step, or of a sub-step in it.
    """
    walk, label = _names(Path(work_dir))
    result: dict[str, Any] = copy.deepcopy(dict(config))
    _give_place(result, label)
    backends = result.get('vis_backends')
    if backends is not None:
        listed = backends if isinstance(backends, (list, tuple)) else [backends]
        result['vis_backends'] = [_backend_of_step(backend, walk, label) for backend in listed]
    return result


def _names(folder: Path) -> tuple[str, str]:
    """Return the names of the walk and of the step (and sub-step) that a folder belongs to."""
    parts = folder.absolute().parts
    start = max(
        (i for i, part in enumerate(parts) if part.startswith('step_')), default=len(parts) - 1
    )
    return parts[start - 1], '_'.join(parts[start:])


def _give_place(config: dict[str, Any], label: str) -> None:
    if config.get('save_dir') is not None:
        config['save_dir'] = str(Path(config['save_dir']) / label)


def _backend_of_step(config: Any, walk: str, label: str) -> Any:
    if not isinstance(config, Mapping):
        return config
    own: dict[str, Any] = copy.deepcopy(dict(config))
    _give_place(own, label)
    kind = own.get('type')
    kind = VISBACKENDS.get(kind) if isinstance(kind, str) else kind
    mro = [base.__name__ for base in getattr(kind, '__mro__', ())]
    for name in (base for base in mro if base in RUN_NAMES):
        *outer, key = RUN_NAMES[name]
        place = own
        for part in outer:
            place[part] = dict(place.get(part) or {})
            place = place[part]
        place[key] = f'{place[key] if place.get(key) else walk}_{label}'
        if name == 'WandbVisBackend':
            place.setdefault('group', walk)
            if place.get('id'):
                place['id'] = f'{place["id"]}_{label}'
    return own


def keep_open(visualizer: Visualizer) -> Visualizer:
    """Let nobody but :func:`close_visualizer` close a visualizer, and return it.

    MMEngine's logger closes it after training, before the step's scores are known.
    """
    vars(visualizer)['close'] = lambda: None
    return visualizer


def close_visualizer(visualizer: Visualizer) -> None:
    """Close the backends of a step's visualizer, so that the next step begins anew.

    An error of a service is only logged: a trained step must not be lost for a log.
    """
    vars(visualizer).pop('close', None)
    for name, backend in visualizer._vis_backends.items():
        wandb = getattr(backend, '_wandb', None)
        try:
            if wandb is not None and not hasattr(wandb, 'join'):
                # MMEngine calls join(), for which newer versions of wandb have finish().
                wandb.finish()
            else:
                backend.close()
        except Exception as error:
            print_log(f'{name} cannot be closed: {type(error).__name__}: {error}', 'current')


def log_scores(visualizer: Visualizer, step: int, entry: Mapping[str, Any]) -> None:
    """Log a step's mean IoUs in per cent (all, old, new, ...): a point at the step in each curve.

    Args:
        visualizer: Visualizer of the step.
        step: The step.
        entry: Entry of ``metrics.json``.
    """
    scores = {
        f'step_mIoU/{part}': 100 * value
        for part, value in entry['mIoU'].items()
        if value is not None
    }
    if scores:
        visualizer.add_scalars(scores, step=step)
