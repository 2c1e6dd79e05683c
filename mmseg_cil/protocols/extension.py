"""The classes of a walk whose first step was trained elsewhere, on other data."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.protocols.taxonomy import (
    IGNORE,
    Taxonomy,
    check_one_class_an_id,
    is_background,
    is_class_id,
)


def read_classes(
    steps: Sequence[Sequence[Any]], known: Sequence[str] | None, where: str
) -> tuple[list[str], list[str]]:
    """Return the classes that a network knows and the classes that later steps add, in order.

    Args:
        steps: Classes of every step.
        known: The network's classes; None: the classes of step 0.
        where: The place in the config, for messages.

    Raises:
        InputError: Step 0 has no classes, or a later step lists a class that is known already.
    """
    first = [str(name).strip() for name in known or (steps[0] if steps else ())]
    if not first:
        raise InputError(
            f'{where} has no classes in step 0; list those of the trained network, in the order '
            'of its outputs.'
        )
    added = [str(name).strip() for step in steps[1:] for name in step]
    twice = [name for name in added if added.count(name) > 1]
    if twice:
        raise InputError(f'{where}: {twice[0]!r} is listed twice; a class is learnt at one step.')
    again = [name for name in added if name in first]
    if again:
        raise InputError(
            f'{where}: {again[0]!r} is a class that the network of step 0 knows already; a later '
            'step can only add others.'
        )
    return first, added


def read_labels(value: Any, where: str) -> dict[str, int]:
    """Return the mask id of each class that a protocol's ``labels`` give.

    Args:
        value: The value of ``labels`` in the config.
        where: The place in the config, for messages.

    Raises:
        InputError: ``value`` is no dict from names to numbers from 0 to 254, or two classes
            share a number.
    """
    plain = isinstance(value, Mapping) and all(
        isinstance(name, str) and is_class_id(mask_id) for name, mask_id in value.items()
    )
    if not plain or not value:
        raise InputError(
            f"{where}: labels must give the id that masks hold for each class, such as {{'horse': "
            f"1, 'sheep': 7}}, with ids from 0 to 254, not {value!r}."
        )
    labels = {name.strip(): mask_id for name, mask_id in value.items()}
    check_one_class_an_id({name: (i,) for name, i in labels.items()}, f'{where}: labels')
    return labels


def extended_taxonomy(
    known: Sequence[str],
    added: Sequence[str],
    ids: Mapping[str, int],
    dataset: str,
    unlabelled: int | None = None,
    void_ids: Sequence[int] = (),
) -> Taxonomy:
    """Return the taxonomy of a trained network's classes and new ones in the masks of new data.

    Classes are matched by name. Classes that the network knows and the data do not have never
    occur in the masks. Classes that the data have and no step adds stand after all others in the
    taxonomy; no step ever adds them, so that they are background to the end.

    A network without a background class (one for Cityscapes, say) has no label for a pixel of no
    class: unlabelled pixels are void then, or one of the old classes (``Policy.unlabelled``).

    Args:
        known: The network's classes, in the order of its outputs.
        added: Classes that later steps add, in order.
        ids: Mask id of each class of the new data.
        dataset: The name of the data.
        unlabelled: Mask id of pixels that nobody labelled; None: there are no such pixels.
        void_ids: Mask ids of pixels that belong to no class.
    """
    names = list(dict.fromkeys([*known, *added, *ids]))
    void = {IGNORE, *void_ids}
    has_background = is_background(known[0])
    found: dict[str, int | None] = {name: ids.get(name) for name in names}
    open_ids: tuple[int, ...] = ()
    if has_background and found[known[0]] is None and unlabelled not in void:
        found[known[0]] = unlabelled
    elif not has_background:
        if unlabelled is not None and unlabelled not in void:
            void.add(unlabelled)
            open_ids = (unlabelled,)
        # The background of the data is no class of a network that has none.
        for name in [name for name in names if is_background(name) and name not in known]:
            mask_id = found.pop(name)
            void |= set() if mask_id is None else {mask_id}
    kept = {
        name: mask_id
        for name, mask_id in found.items()
        if mask_id not in void or (has_background and name == known[0])
    }
    return Taxonomy(
        dataset,
        tuple(kept),
        tuple(None if mask_id in void else mask_id for mask_id in kept.values()),
        has_background,
        tuple(sorted(void)),
        left_out=tuple(name for name in found if name not in kept),
        unlabelled=open_ids,
    )


def check_added(
    added: Sequence[str], ids: Mapping[str, int], known: Sequence[str], given: bool, where: str
) -> None:
    """Refuse new classes that the data cannot show, and labels of classes that never come.

    Args:
        added: Classes that later steps add.
        ids: Mask id of each class of the data.
        known: The network's classes.
        given: Whether the ids are the protocol's ``labels`` (else the data set's classes).
        where: The place in the config, for messages.

    Raises:
        InputError: A new class has no id, or an id is given to a class that neither a step adds
            nor the network knows.
    """
    lost = [name for name in added if name not in ids]
    if lost:
        near = difflib.get_close_matches(lost[0], list(ids), 1)
        hint = f' (did you mean {near[0]!r}?)' if near else ''
        place = 'labels give it no id' if given else 'the data set has no class of that name'
        raise InputError(
            f'{where}: a step adds {lost[0]!r}, but {place}{hint}: there are {", ".join(ids)}. '
            f"Give the id that masks hold for it, such as labels={{'{lost[0]}': 1}}."
        )
    strange = [name for name in ids if given and name not in (*added, *known)]
    if strange:
        near = difflib.get_close_matches(strange[0], [*added, *known], 1)
        hint = f'; did you mean {near[0]!r}' if near else ''
        raise InputError(
            f'{where}: labels give an id to {strange[0]!r}, which no step adds and the network '
            f'does not know{hint}. Name the ids of what belongs to no class in void_ids.'
        )
