"""The state of a step in training, checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmseg_cil.engine.record.fingerprint import changed
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_checkpoint_hook import IDENTITY_KEY, RESUME_NAME
from mmseg_cil.utils.finite import named, not_finite
from mmseg_cil.utils.hashed_file import damage
from mmseg_cil.utils.weights_files import NotDataError, read_weights


def step_identity(step: int, num_classes: int, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Return the identity of a usable state: its step, the step's classes, and the fingerprints.

    Args:
        step: The step.
        num_classes: Number of classes after the step.
        fingerprints: Fingerprints of the walk, as the journal holds them.
    """
    return {'step': step, 'classes': num_classes, **fingerprints}


def can_resume(
    folder: Path, identity: Mapping[str, Any], former: Mapping[str, Sequence[str]] | None = None
) -> bool:
    """Return whether a step's folder holds a state to go on from.

    Args:
        folder: Folder of the step.
        identity: Identity of the step (see :func:`step_identity`).
        former: Other values that parts of the identity may have, by name: the same
            in the form of an earlier version.

    Returns:
        False where there is no state.

    Raises:
        InputError: There is a state, but it is damaged, of another kind, or of
            another step or walk.
    """
    path = folder / RESUME_NAME
    if not path.exists():
        return False
    problem = _problem(path, identity, former)
    if problem:
        raise InputError(
            f'the training of step {identity["step"]} cannot go on from {path}: {problem}. Delete '
            f'that file and start again with --resume: step {identity["step"]} then begins anew '
            'from its start'
        )
    return True


def _problem(
    path: Path, identity: Mapping[str, Any], former: Mapping[str, Sequence[str]] | None
) -> str | None:
    try:
        content = read_weights(path)
    except NotDataError as error:
        return f'it holds {error.holds}, and it is read as data, which cannot run code'
    except Exception as error:
        return f'it cannot be read and may have been cut off ({type(error).__name__}: {error})'
    meta = content.get('meta') if isinstance(content, Mapping) else None
    found = meta.get(IDENTITY_KEY) if isinstance(meta, Mapping) else None
    if not isinstance(found, Mapping):
        return 'it is no state that a step in training has saved'
    parts = [key for key in ('state_dict', 'optimizer', 'message_hub') if key not in content]
    if parts or not isinstance(meta, Mapping) or not isinstance(meta.get('iter'), int):
        return f'it lacks {", ".join(parts) or "the iteration"}'
    weights = content['state_dict']
    if bad := not_finite(weights if isinstance(weights, Mapping) else {}):
        return f'its weights are not finite ({named(bad)})'
    differing = changed(found, identity, former)
    if differing:
        listed = ', '.join(
            f'{key} {found.get(key)} instead of {identity.get(key)}'
            if key in ('step', 'classes')
            else key
            for key in differing
        )
        return f'it was saved by another walk or step, which differs in: {listed}'
    found_damage = damage(path)
    return f'it was changed or damaged ({found_damage})' if found_damage else None
