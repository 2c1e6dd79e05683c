"""The differences between a walk that goes on and the walk that its journal records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.config import Config
from mmengine.dist import get_world_size
from torch import nn

from mmseg_cil.engine.config.comparison import differences
from mmseg_cil.engine.preflight.building import part
from mmseg_cil.engine.record.completeness import listed
from mmseg_cil.engine.record.config_copy import NAME as COPY
from mmseg_cil.engine.record.earlier import IMAGES, has_same_beginning
from mmseg_cil.engine.record.fingerprint import OWN_PIPELINE, changed, training_fingerprints
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.record.verify import check_checkpoint, check_same_walk
from mmseg_cil.engine.runner.step_runner import load_into
from mmseg_cil.engine.step_configs import lone_config
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.models.teacher import load_plain_state
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.literals import read_literals


def check_same_training(walk: Walk, journal: Journal, fingerprints: Mapping[str, str]) -> None:
    """Refuse a config that would train otherwise than the one the walk was begun with.

    Args:
        walk: The walk as the config describes it now.
        journal: Journal of the walk.
        fingerprints: Fingerprints of the config now.

    Raises:
        InputError: The fingerprints differ; the message names the settings that do.
    """
    check_same_walk(
        journal,
        fingerprints,
        details=_details(walk, journal),
        settings=_changed_settings(walk, journal),
    )


def _details(walk: Walk, journal: Journal) -> dict[str, str]:
    """Return details on some of the fingerprints that may differ, by the fingerprints' names."""
    result = {}
    recorded = (journal.content.get('data') or {}).get('train')
    counts = (journal.content.get('images') or {}).get('train') or []
    others = (
        _differing(recorded, walk.prints.train)
        if recorded
        else _differing(counts, walk.train_images)
    )
    if others:
        how = 'other images or masks, or in another order' if recorded else 'another number of them'
        result[IMAGES] = f'of {listed(others)}: {how}'
    steps = len(journal.content['protocol'].get('steps') or ())
    common = min(steps, walk.num_steps)
    if steps != walk.num_steps and has_same_beginning(
        walk, journal.content['protocol'], common - 1
    ):
        change = 'further ones come' if steps < walk.num_steps else 'later ones are missing'
        result['protocol'] = f'{listed(range(common))} the same, {change}'
    return result


def _changed_settings(walk: Walk, journal: Journal) -> list[str]:
    """Return the keys in which the config differs from the copy that the walk has left.

    The list is empty where no copy can be read.
    """
    try:
        before = read_literals(journal.path.parent / COPY)
    except (OSError, ValueError, SyntaxError):
        return []
    return differences(before, walk.as_given.to_dict())


def only_adds_steps(walk: Walk, journal: Journal, fingerprints: Mapping[str, str]) -> bool:
    """Return whether a finished walk goes on with steps that did not exist when it began.

    Everything that was trained would be trained in the same way now, so no change needs to be
    accepted.

    Args:
        walk: The walk as the config describes it now.
        journal: Journal of the walk.
        fingerprints: Fingerprints of the config now.
    """
    content = journal.content
    steps = len(content['protocol'].get('steps') or ())
    if not 0 < steps < walk.num_steps or not all(journal.is_done(step) for step in range(steps)):
        return False
    recorded = list((content.get('data') or {}).get('train') or [])[:steps]
    # Overrides of the further steps change nothing that was trained.
    fingerprints = {**fingerprints, **_without_overrides(walk, steps)}
    # The pipeline of a data set that comes with a further step has no recorded fingerprint yet.
    further = {
        key
        for key in fingerprints
        if key.startswith(OWN_PIPELINE) and key not in content['fingerprints']
    }
    return (
        set(changed(content['fingerprints'], fingerprints)) <= {'protocol', IMAGES, *further}
        and has_same_beginning(walk, content['protocol'], steps - 1)
        and recorded == list(walk.prints.train[:steps])
    )


def _without_overrides(walk: Walk, first: int) -> dict[str, str]:
    """Return the training fingerprints without the overrides of the steps from ``first`` on.

    The result is empty where there are no such overrides.
    """
    cfg = walk.as_given
    overrides = cfg.get('step_overrides') or {}
    kept = {
        step: changes
        for step, changes in overrides.items()
        if not str(step).isdigit() or int(step) < first
    }
    if len(kept) == len(overrides):
        return {}
    cfg = Config({**cfg.to_dict(), 'step_overrides': kept or None})
    return training_fingerprints(cfg, walk.protocol, walk.prints.train, get_world_size())


def check_trained_network(walk: Walk, journal: Journal, fingerprints: Mapping[str, str]) -> None:
    """Check that the weights of the last trained step fit a network that was changed.

    Raises:
        InputError: The weights do not fit, which no acceptance of changes makes up for.
    """
    trained = [record['step'] for record in journal.content['steps'] if record['status'] != 'begun']
    if not trained or journal.content['fingerprints'].get('model') == fingerprints['model']:
        return
    step = trained[-1]
    path = check_checkpoint(journal, step)
    config = lone_config(walk, step)
    with part(f'the network of step {step}'):
        network: nn.Module = MODELS.build(config.model)
    load_into(network, load_plain_state(path, len(walk.seen_names(step))), str(path))


def _differing(before: Sequence[object], now: Sequence[object]) -> list[int]:
    return [step for step, pair in enumerate(zip(before, now, strict=False)) if pair[0] != pair[1]]


def check_trained_classes(walk: Walk, journal: Journal) -> None:
    """Check that the trained steps know the classes that this config gives them.

    Raises:
        InputError: A step knows other classes, which no acceptance of changes makes up for.
    """
    steps = journal.content['protocol'].get('steps') or []
    for record in journal.content['steps']:
        step = record['step']
        if record['status'] == 'begun':
            continue
        if step >= walk.num_steps:
            raise InputError(
                f'{journal.path} records step {step}, and the protocol {walk.protocol.name} of '
                f'this config has the steps 0..{walk.num_steps - 1} only: use the former config, '
                f'or begin in another --work-dir with --start-from {journal.path.parent}:'
                f'{walk.num_steps - 1}'
            )
        now = walk.seen_names(step)
        before = [*steps[step]['old'], *steps[step]['new']] if step < len(steps) else now
        if before != now:
            raise InputError(
                f'step {step} in {journal.path.parent} is trained on the classes '
                f'{", ".join(before)}, and this config gives it {", ".join(now)}: use the former '
                'config, or another --work-dir'
            )
