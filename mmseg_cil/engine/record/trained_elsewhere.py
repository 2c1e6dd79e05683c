"""Taking over a first step that was trained elsewhere: a plain MMSegmentation checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmseg_cil.engine.config.first_step import is_trained_elsewhere, read_checkpoint
from mmseg_cil.engine.config.method import memory_settings
from mmseg_cil.engine.export.step import export_step
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.preflight.building import part
from mmseg_cil.engine.record.fingerprint import file_hash
from mmseg_cil.engine.record.journal import Journal
from mmseg_cil.engine.runner.distributed import decided_by_main
from mmseg_cil.engine.runner.step_runner import load_into
from mmseg_cil.engine.step_configs import lone_config
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.finite import require_finite
from mmseg_cil.utils.weights_files import state_of

_LISTED = 3
#: The prefix of distributed wrappers, once or several times.
_WRAPPED = (r'^(module\.)+', '')
#: Buffers of losses and data preprocessors, which a checkpoint may hold and no network needs.
_NEEDLESS = ('.loss_decode.', 'data_preprocessor.')


@dataclass(frozen=True)
class TrainedElsewhere:
    """A first step that is taken over from a checkpoint of another training.

    Attributes:
        checkpoint: File of the checkpoint, as the config names it.
        sha256: SHA-256 of the file; None where it is no local file.
        revise_keys: Patterns in the names of weights, and their replacements, in order.
        note: Information on the step for a person.
    """

    checkpoint: str
    sha256: str | None
    revise_keys: tuple[tuple[str, str], ...] = ()
    note: str = ''

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that are taken over: the first."""
        return (0,)


def plan_first_step(walk: Walk, journal: Journal | None) -> TrainedElsewhere | None:
    """Check the network that is step 0 of a walk; write nothing.

    Args:
        walk: The walk.
        journal: Journal of the walk, where it has one.

    Returns:
        The step to take over; None where this is done already, or no step was trained elsewhere.

    Raises:
        InputError: The checkpoint cannot be read, belongs to other classes or another network, or
            is not the file that step 0 was taken from.
    """
    if not is_trained_elsewhere(walk.cfg):
        return None
    asked = walk.cfg.protocol.checkpoint
    if journal is not None and journal.is_trained(0):
        _check_same_file(asked['checkpoint'], journal)
        return None
    _check_classes(asked['classes'], walk)
    return decided_by_main(lambda: _checked(walk, asked['checkpoint'], _revised(asked)))


def take_over_first_step(plan: TrainedElsewhere, walk: Walk, journal: Journal) -> None:
    """Write the network as the walk's step 0, and record its origin.

    Only rank 0 calls this function.

    Args:
        plan: The step, as :func:`plan_first_step` has checked it.
        walk: The walk.
        journal: Journal of the walk.
    """
    if plan.note:
        print(f'note: {plan.note}')
    model = _network(walk)
    state = _state(read_checkpoint(plan.checkpoint), plan.checkpoint, plan.revise_keys)
    step_folder(walk.work_dir, 0).mkdir(parents=True, exist_ok=True)
    # Heads that the walk does not have may be in the file.
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own}
    load_into(model, fitting, plan.checkpoint)
    hashes = export_step(walk, 0, model, {})
    journal.update_step(
        0,
        status='trained',
        trained=True,
        classes=len(walk.seen_names(0)),
        images=walk.train_images[0],
        training_images=walk.prints.train[0],
        replayed=0,
        iterations=0,
        taken_from={
            'checkpoint': plan.checkpoint,
            'sha256': plan.sha256,
            'revise_keys': [list(pair) for pair in plan.revise_keys],
        },
        **hashes,
    )


def _check_same_file(checkpoint: str, journal: Journal) -> None:
    taken: Mapping[str, Any] = (journal.step(0) or {}).get('taken_from') or {}
    if 'sha256' not in taken:
        raise InputError(
            f'{journal.path.parent} holds a walk that trained step 0 itself, or took it from '
            'another walk: give another --work-dir to begin with a checkpoint'
        )
    # A file that has gone is needed no more.
    found = decided_by_main(lambda: _sha256(checkpoint))
    if found is not None and taken['sha256'] not in (None, found):
        raise InputError(
            f'{checkpoint} is not the file that step 0 of {journal.path.parent} was taken from '
            f'(SHA-256 expected: {taken["sha256"]}, found: {found}): name the former file, or '
            'give another --work-dir'
        )


def _check_classes(classes: list[str], walk: Walk) -> None:
    ours = walk.seen_names(0)
    if list(classes) == ours:
        return
    hint = ''
    if ours[1:] == list(classes) and walk.protocol.taxonomy.has_background:
        hint = " (the network has no background: set protocol.background='none')"
    raise InputError(
        f'protocol.checkpoint: the network has the classes {list(classes)}, and step 0 of '
        f'{walk.protocol.name} has {ours}{hint}: both must be the same in the same order, for '
        'output i of the network is class i of the walk. List the classes of each step in '
        'protocol.steps'
    )


def _revised(asked: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of MMEngine's ``revise_keys``, that of distributed wrappers first.

    Raises:
        InputError: The setting is no list of pairs of patterns and texts.
    """
    given = asked.get('revise_keys') or ()
    try:
        pairs = tuple((str(pattern), str(text)) for pattern, text in given)
        for pattern, _ in pairs:
            re.compile(pattern)
    except (TypeError, ValueError, re.error) as error:
        raise InputError(
            'protocol.checkpoint.revise_keys must be a list of pairs as of MMEngine, such as '
            f"[('^model\\.', '')], not {given!r} ({error})"
        ) from error
    return (_WRAPPED, *pairs)


def _checked(
    walk: Walk, checkpoint: str, revise_keys: tuple[tuple[str, str], ...]
) -> TrainedElsewhere:
    content = read_checkpoint(checkpoint)
    state = _state(content, checkpoint, revise_keys)
    require_finite(state, f'the checkpoint {checkpoint}', 'Nothing can be learnt from such weights')
    _check_fit(_network(walk), state, checkpoint)
    note = f'step 0 is the network of {checkpoint}, and is not trained'
    if walk.protocol.kind == 'class':
        note += f'; pixels that nobody labelled are {_unlabelled(walk)}'
    if memory_settings(walk.cfg, walk.protocol.name) is not None and not walk.train_images[0]:
        note += (
            f'; the exemplars of {walk.cfg.method.get("name")} begin empty, for no training image '
            'shows what step 0 learnt: the next step replays nothing, and later steps replay '
            'images of the steps between alone'
        )
    if 'ema_state_dict' in content:
        note += '; its averaged weights (EMA) are used, which MMEngine keeps as its state_dict'
    return TrainedElsewhere(checkpoint, _sha256(checkpoint), revise_keys, note)


def _unlabelled(walk: Walk) -> str:
    """Return, as a text, the meaning of pixels without a label in training."""
    protocol = walk.protocol
    if protocol.taxonomy.has_background:
        return 'background (except where a data set says void), which may hide old classes'
    if protocol.old_labels_hidden:
        return 'one of the old classes, for the network has no background'
    return (
        'void, for the network has no background: nothing shows the network where its new classes '
        "are not, and it may predict them everywhere (protocol.policy.unlabelled='old' does, with "
        'a method whose loss knows of hidden classes: mib, plop, rcil, vdfd)'
    )


def _sha256(checkpoint: str) -> str | None:
    return file_hash(checkpoint) if Path(checkpoint).is_file() else None


def _state(
    content: Any, checkpoint: str, revise_keys: Sequence[tuple[str, str]]
) -> dict[str, Tensor]:
    """Return the weights of a checkpoint by their names in the network."""
    if isinstance(content, Mapping) and 'ema_state_dict' in content and 'state_dict' not in content:
        raise InputError(
            f'protocol.checkpoint: {checkpoint} holds an ema_state_dict and no state_dict: save '
            "the one that is meant as dict(state_dict=...), its names without 'module.'"
        )
    found = state_of(content) if isinstance(content, Mapping) else {}
    state = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not state:
        raise InputError(
            f'protocol.checkpoint: {checkpoint} holds no weights by name: give a file that '
            'MMEngine has saved, or a state_dict'
        )
    for pattern, text in revise_keys:
        state = {re.sub(pattern, text, name): value for name, value in state.items()}
    return state


def _network(walk: Walk) -> Any:
    cfg = lone_config(walk, 0)
    with part('the network of step 0'), torch.random.fork_rng():
        model: Any = MODELS.build(cfg.model)
    model.make_plain()
    return model


def _check_fit(model: Any, state: Mapping[str, Tensor], checkpoint: str) -> None:
    """Refuse weights of another network.

    Raises:
        InputError: Weights are missing, of another shape, or left over.
    """
    own = plain_state_dict(model.state_dict())
    # Checkpoints of old versions of PyTorch lack the counters of norms.
    missing = [n for n in own if n not in state and not n.endswith('num_batches_tracked')]
    shapes = [
        f'{name} ({tuple(state[name].shape)} there, {tuple(own[name].shape)} here)'
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    # An auxiliary head that the walk does not have has no part in the network's predictions.
    left = [
        name
        for name in state
        if name not in own
        and not name.startswith('auxiliary_head.')
        and not any(part in f'.{name}' for part in _NEEDLESS)
    ]
    told = [
        f'{title}: {", ".join(names[:_LISTED])}'
        + (f' and {len(names) - _LISTED} more' if len(names) > _LISTED else '')
        for title, names in (
            ('not in the file', missing),
            ('of another shape', shapes),
            ('in the file alone', left),
        )
        if names
    ]
    if told:
        raise InputError(
            f'protocol.checkpoint: {checkpoint} is of another network than the config: '
            f'{"; ".join(told)}. Give the config that the checkpoint was trained with, or '
            'checkpoint.revise_keys where its names alone are others'
        )
