"""Protocols whose steps of classes or domains a config lists, with or without own data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.protocols.base import Protocol
from mmseg_cil.protocols.by_class import ClassProtocol, class_steps
from mmseg_cil.protocols.by_domain import listed_domains
from mmseg_cil.protocols.extension import check_added, extended_taxonomy, read_classes, read_labels
from mmseg_cil.protocols.own_data import DataSets
from mmseg_cil.protocols.request import Request, as_list, class_id_of
from mmseg_cil.protocols.taxonomy import Taxonomy, read_void_ids

_ENTRY = ('classes', 'data')


def uses_config_dataset(cfg: Mapping[str, Any]) -> bool:
    """Return whether some step reads the data sets of the config's dataloaders.

    No step reads them where every step has a data set of its own; a first step that was trained
    elsewhere need not have one.

    Args:
        cfg: The ``protocol`` of a config.
    """
    steps, domains = cfg.get('steps'), cfg.get('domains')
    entries = domains if steps is None else steps
    if isinstance(entries, str) or not isinstance(entries, Sequence):
        return True
    own = [isinstance(entry, Mapping) and entry.get('data') is not None for entry in entries]
    if not any(own):
        return True
    begin = 0
    if cfg.get('checkpoint') is not None:
        begin = 1 if steps is not None else _placeholders(entries, cfg.get('domain_steps'))
    return not all(own[begin:]) or not any(own[begin:])


def _placeholders(domains: Sequence[Any], steps: Any) -> int:
    """Return the number of leading domains of step 0 that have a name and nothing else.

    Such a domain names data that a network was trained on elsewhere.
    """
    first = len(steps[0]) if isinstance(steps, Sequence) and steps else 1
    count = 0
    for entry in domains[:first]:
        if not isinstance(entry, Mapping) or set(entry) - {'name'}:
            break
        count += 1
    return count


def listed_classes(request: Request) -> ClassProtocol:
    """Build a protocol whose steps list their classes."""
    why = 'does not go with steps that list their classes'
    request.refuse(('class_order', 'counting', 'split', 'domain_steps', 'strict'), why)
    where = f'protocol {request.name!r}'
    listed, values = _entries(as_list(request.cfg['steps'], f'{where}: steps'), where)
    uses_config = uses_config_dataset(request.cfg)
    if any(value is not None for value in values):
        taxonomy = _taxonomy_of_several(request, listed, values, uses_config)
    else:
        taxonomy = _listed_taxonomy(request, listed)
    new = [
        [class_id_of(taxonomy, name, f'{where}: step {index}') for name in names]
        for index, names in enumerate(listed)
    ]
    if taxonomy.has_background and new and new[0]:
        if all(0 not in step for step in new):
            new[0].insert(0, 0)
        elif 0 in new[0]:
            # The background is output 0, wherever step 0 lists it.
            new[0].sort(key=bool)
    sets = DataSets()
    places: list[tuple[int, ...]] = []
    for index, value in enumerate(values):
        here = f'{where}: step {index}'
        elsewhere = not index and request.get('checkpoint') is not None
        if value is not None:
            places.append((sets.place(value, f'step_{index:02d}', here, not elsewhere),))
        else:
            places.append((0,) if uses_config else ())
    steps = class_steps(new, len(taxonomy.names))
    return ClassProtocol(
        request.name,
        taxonomy,
        tuple(replace(step, data=data) for step, data in zip(steps, places, strict=True)),
        request.policy,
        request.setting,
        tuple(sets.own),
    )


def _entries(steps: Sequence[Any], where: str) -> tuple[list[list[Any]], list[Any]]:
    """Return the classes that every step lists, and the value of its ``data``.

    Raises:
        InputError: A step is neither a list of classes nor a dict of ``classes`` and ``data``.
    """
    listed, values = [], []
    for index, entry in enumerate(steps):
        here, value = f'{where}: step {index}', None
        if isinstance(entry, Mapping):
            strange = [key for key in entry if key not in _ENTRY]
            if strange or entry.get('classes') is None:
                raise InputError(
                    f"{here} must be a list of classes, or dict(classes=['horse'], "
                    f'data=dict(train=dict(...), test=dict(...))), not one of '
                    f'{", ".join(map(str, entry))}.'
                )
            entry, value = entry['classes'], entry.get('data')
        listed.append(as_list(entry, here))
        values.append(value)
    return listed, values


def _listed_taxonomy(request: Request, listed: Sequence[Sequence[Any]]) -> Taxonomy:
    """Return the taxonomy of listed steps: the data set's, or an extended trained network's."""
    dataset = request.get('dataset', 'dataset')
    known = (request.get('checkpoint') or {}).get('classes')
    if known is None and request.get('labels') is None:
        return request.taxonomy(dataset)
    known, added = read_classes(listed, known, f'protocol {request.name!r}')
    return _extended(request, known, added)


def _extended(request: Request, known: Sequence[str], added: Sequence[str]) -> Taxonomy:
    """Return the taxonomy of a network's and further classes in the config's data set."""
    where = f'protocol {request.name!r}'
    dataset = request.get('dataset', 'dataset')
    if request.get('labels') is not None:
        ids = read_labels(request.cfg['labels'], where)
        unlabelled = None if 0 in ids.values() else 0
        void_ids = read_void_ids(request.cfg.get('void_ids'), where)
        void = sorted({*ids.values()} & {*void_ids})
        if void:
            raise InputError(f'{where}: the id {void[0]} is of a class in labels and in void_ids.')
    else:
        base = request.taxonomy(dataset)
        pairs = zip(base.names, base.mask_ids, strict=True)
        ids = {n: i for n, i in pairs if i is not None and not (base.background_added and i == 0)}
        unlabelled = 0 if request.reduce_zero_label else None
        void_ids = base.void_ids
    check_added(added, ids, known, request.get('labels') is not None, where)
    return extended_taxonomy(known, added, ids, dataset, unlabelled, void_ids)


def _taxonomy_of_several(
    request: Request, listed: Sequence[Sequence[Any]], values: Sequence[Any], uses_config: bool
) -> Taxonomy:
    """Return the taxonomy of steps some of which have a data set of their own.

    Args:
        request: The settings.
        listed: Classes of every step.
        values: The value of ``data`` of every step; None: the step reads the config's data set.
        uses_config: Whether any step reads the config's data set.
    """
    names = [str(name).strip() for step in listed for name in step if isinstance(name, str)]
    known = (request.get('checkpoint') or {}).get('classes')
    if not uses_config:
        if known is not None:
            known, names = read_classes(listed, known, f'protocol {request.name!r}')
        return _without_config(request, [*(known or ()), *names], False)
    if known is None and request.get('labels') is None:
        return request.taxonomy(request.get('dataset', 'dataset')).with_further(names)
    known, added = read_classes(listed, known, f'protocol {request.name!r}')
    brought = {
        str(name).strip()
        for step, value in zip(listed[1:], values[1:], strict=True)
        for name in step
        if value is not None
    }
    of_config = [name for name in added if name not in brought]
    return _extended(request, known, of_config).with_further([*known, *added])


def _without_config(request: Request, names: Sequence[str], domain: bool) -> Taxonomy:
    """Return the taxonomy of steps none of which reads the config's data set."""
    request.refuse(
        ('labels', 'void_ids'),
        "is of the dataset of train_dataloader, which no step reads: say it in each step's data",
    )
    taxonomy = Taxonomy.from_classes(
        request.get('dataset', 'dataset'),
        list(dict.fromkeys(names)),
        False,
        request.get('background', 'auto'),
        domain,
    )
    free = replace(taxonomy, free=tuple(range(len(taxonomy.names))))
    return free.with_further(())


def listed_domain_protocol(request: Request) -> Protocol:
    """Build a protocol whose domains the config lists."""
    request.refuse(('class_order', 'counting', 'split', 'labels'), 'does not go with domains')
    dataset = request.get('dataset', 'dataset')
    domains = request.cfg['domains']
    uses_config = uses_config_dataset(request.cfg)
    if uses_config:
        taxonomy = request.taxonomy(dataset, domain=True)
    else:
        known = (request.get('checkpoint') or {}).get('classes')
        if known is None:
            raise InputError(
                f'protocol {request.name!r}: every domain has a data set of its own, so that '
                'nothing tells the classes of the walk: make the first the dataset of '
                "train_dataloader and test_dataloader, and its domain dict(name='first') alone."
            )
        taxonomy = _without_config(request, known, True)
    return listed_domains(
        request.name,
        taxonomy,
        request.policy,
        domains,
        request.get('domain_steps'),
        request.get('strict', True),
        uses_config,
        request.get('checkpoint') is not None,
    )
