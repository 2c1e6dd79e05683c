"""From the ``protocol`` of a config to a protocol.

The keys of ``protocol = dict(...)``, of which only ``name`` is always needed:

- ``name``: a named protocol (``voc_X-Y``, ``ade20k_X-Y``,
  ``cityscapes_X-Y``, ``cityscapes_domain_X-Y``, ``..._joint``), or
  any word for one that is listed. ``X-Y`` are X foreground classes
  first, then Y a step; only ``voc_11-5``, ``voc_11-1`` and
  ``voc_1-1`` count the background among the X.
- ``steps``: classes by step, by name or class id, over ``dataset``.
  A background that is not listed joins step 0. Classes that no
  step lists never come: they are background to the end.
- ``domains``: ``dict(name=..., pattern=...)`` or ``dict(name=...,
  list_file=...)`` each, with ``domain_steps``, the domains by step
  (default: one a step). ``strict=False`` leaves out images of no
  domain.
- ``dataset``: ``voc``, ``ade20k``, ``cityscapes`` or, for an
  own one, any word. With an own one ``WORD_X-Y`` and ``WORD_joint``
  are names too.
- ``setting``: ``overlapped`` (default), ``disjoint``, ``sequential``.
  Protocols by domain keep every label, whatever it says.
- ``preset`` and ``policy``: see :class:`Policy`.
- ``class_order``: all classes (names or class ids) in order, or
  ``dict(seed=n)``: NumPy's ``RandomState(n).permutation`` of the
  foreground. The background stays first.
- ``counting``: ``'background'`` or ``'foreground'``: reads ``X-Y``
  so, whatever the name.
- ``background``: see :meth:`Taxonomy.from_classes`.
- ``void_ids``: mask ids besides 255 of pixels that belong to no class. A
  class of such an id is left out, and class ids count without it. A dataset's
  config may have the key too, for its own masks.
- ``checkpoint``: ``dict(config=..., checkpoint=..., classes=[...])``, a network
  that was trained elsewhere and is step 0 of the walk. ``classes`` are its
  outputs; the walk reads them from the file where they are not given. With
  ``steps`` the data need not have its classes. ``revise_keys`` are MMEngine's.
- ``labels``: the mask id of each class, such as ``{'horse': 1, 'sheep': 7}``, with
  ``steps``: for data whose masks hold new classes alone. Classes that it does
  not name do not occur there, and 0, where it is no class's, is unlabelled.
- ``split``: ``'clean'`` (default) or ``'legacy'``, Cityscapes by city.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from mmseg_cil.errors import InputError
from mmseg_cil.protocols.base import SETTINGS, Protocol
from mmseg_cil.protocols.by_class import ClassProtocol, class_steps
from mmseg_cil.protocols.by_domain import CITY_SPLITS, city_protocol, listed_domains
from mmseg_cil.protocols.extension import check_added, extended_taxonomy, read_classes, read_labels
from mmseg_cil.protocols.families import NAME, PROTOCOLS
from mmseg_cil.protocols.policy import Policy
from mmseg_cil.protocols.taxonomy import DATASETS, Taxonomy, known_taxonomy, read_void_ids

COUNTED = ('11-5', '11-1', '1-1')
"""The sizes that count the background among the 21 classes of VOC.

Also those of other datasets with 21 classes of which the first is the background.
"""

_KEYS = (
    'name', 'dataset', 'setting', 'preset', 'policy', 'class_order', 'counting', 'background',
    'split', 'steps', 'domains', 'domain_steps', 'strict', 'void_ids', 'checkpoint', 'labels',
)  # fmt: skip


@dataclass(frozen=True)
class _Request:
    """The settings of a ``protocol = dict(...)`` and what the dataset says."""

    cfg: Mapping[str, Any]
    name: str
    setting: str
    policy: Policy
    classes: Sequence[str] | None
    reduce_zero_label: bool

    def get(self, key: str, default: Any = None) -> Any:
        value = self.cfg.get(key)
        return default if value is None else value

    def refuse(self, keys: Sequence[str], why: str) -> None:
        given = [key for key in keys if self.cfg.get(key) is not None]
        if given:
            raise InputError(f'protocol {self.name!r}: {given[0]} {why}; take it out.')

    def taxonomy(self, dataset: str, domain: bool = False) -> Taxonomy:
        void_ids = read_void_ids(self.cfg.get('void_ids'), f'protocol {self.name!r}')
        taxonomy = self._taxonomy(dataset, domain)
        return taxonomy.with_void_ids(void_ids) if void_ids else taxonomy

    def _taxonomy(self, dataset: str, domain: bool) -> Taxonomy:
        background = self.get('background', 'auto')
        if dataset in DATASETS:
            if dataset != 'ade20k' and self.reduce_zero_label:
                raise InputError(
                    f'protocol {self.name!r}: masks of {dataset!r} hold their first class as 0, '
                    'but the dataset sets reduce_zero_label=True; set it to False.'
                )
            known = known_taxonomy(dataset, background, domain)
            return known if self.classes is None else known.with_names(self.classes)
        if self.classes is None:
            raise InputError(
                f'protocol {self.name!r}: the classes of the dataset {dataset!r} are not known '
                f'here; known are {", ".join(DATASETS)}. Give the classes of your dataset '
                '(a config has them from its dataset).'
            )
        return Taxonomy.from_classes(
            dataset, self.classes, self.reduce_zero_label, background, domain
        )


def build_protocol(
    cfg: Mapping[str, Any],
    classes: Sequence[str] | None = None,
    reduce_zero_label: bool = False,
) -> Protocol:
    """The protocol that a config asks for.

    Args:
        cfg: With the keys that this module's description lists.
        classes: The classes of the dataset class (``METAINFO``).
        reduce_zero_label: What the dataset class sets.

    Raises:
        InputError: Anything above is wrong; the message says what and where.
    """
    _check_keys(cfg)
    name = cfg['name']
    matched = NAME.fullmatch(name)
    family = matched['family'] if matched else ''
    known = PROTOCOLS.get(family)
    named = known is not None and known.build is not None
    request = _request(cfg, family.removesuffix('_domain'), classes, reduce_zero_label)
    listed = [key for key in ('steps', 'domains') if cfg.get(key) is not None]
    if len(listed) == 2:
        raise InputError(f'protocol {name!r}: give steps (of classes) or domains, not both.')
    if listed and named:
        raise InputError(
            f'protocol {name!r} is a named one, but the config lists {listed[0]}; '
            'call a listed protocol otherwise.'
        )
    if listed:
        return _listed_classes(request) if listed == ['steps'] else _listed_domains(request)
    if matched and known is not None and known.build is not None:
        protocol: Protocol = known.build(request, family, matched)
        return protocol
    if matched and family and family == cfg.get('dataset'):
        return sized_classes(request, family, matched)
    _unknown(name)


def _check_keys(cfg: Any) -> None:
    if not isinstance(cfg, Mapping) or not isinstance(cfg.get('name'), str):
        raise InputError(
            "the config's protocol must be a dict with a name, as in "
            "protocol = dict(name='voc_15-1', setting='overlapped')."
        )
    for key in cfg:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, 1)
            hint = f'; did you mean {near[0]!r}' if near else ''
            raise InputError(
                f'protocol {cfg["name"]!r} has no setting {key!r}{hint}. '
                f'There are {", ".join(_KEYS)}.'
            )


def _request(
    cfg: Mapping[str, Any], dataset: str, classes: Sequence[str] | None, reduce_zero_label: bool
) -> _Request:
    """Checks what all kinds of protocols share."""
    where = f'protocol {cfg["name"]!r}'
    dataset = cfg.get('dataset') or dataset
    if not isinstance(dataset, str):
        raise InputError(f'{where}: dataset must be a word, not {dataset!r}.')
    changes = cfg.get('policy') or {}
    if not isinstance(changes, Mapping):
        raise InputError(f'{where}: policy must be a dict of choices, not {changes!r}.')
    policy = Policy.preset(cfg.get('preset') or 'default', dataset, **changes)
    setting = cfg.get('setting') or 'overlapped'
    if setting not in SETTINGS:
        raise InputError(
            f'{where}: setting={setting!r} is unknown; use one of {", ".join(SETTINGS)}.'
        )
    return _Request(cfg, cfg['name'], setting, policy, classes, reduce_zero_label)


def _unknown(name: str) -> NoReturn:
    families = [f'{family}_X-Y' for family in PROTOCOLS.built()]
    near = difflib.get_close_matches(name, PROTOCOLS.named(), 3, 0.5)
    hint = f' Near to it: {", ".join(near)}.' if near else ''
    raise InputError(
        f'unknown protocol {name!r}.{hint} There are {", ".join(families)} (as in voc_15-1) and '
        'DATASET_joint; for an own one give steps=[[class, ...], ...] or domains=[dict(name=..., '
        'pattern=...), ...], or name it WORD_X-Y with dataset=WORD.'
    )


def sized_classes(request: _Request, family: str, matched: re.Match[str]) -> ClassProtocol:
    """Build ``FAMILY_X-Y`` or ``FAMILY_joint`` by class: a :data:`~.families.Builder`."""
    why = 'belongs to another kind of protocol'
    request.refuse(('split', 'domain_steps', 'strict'), why)
    if request.get('dataset', family) != family:
        raise InputError(
            f'protocol {request.name!r} is for the dataset {family!r}, but the config says '
            f'dataset={request.cfg["dataset"]!r}; make them the same.'
        )
    # Joint training has no unknown classes, so on Cityscapes there is nothing to add.
    joint_without = bool(matched['joint']) and family == 'cityscapes'
    taxonomy = request.taxonomy(family, domain=joint_without)
    order = _class_order(request, taxonomy)
    new = [order] if matched['joint'] else _cut(request, taxonomy, order, matched)
    return ClassProtocol(
        request.name,
        taxonomy,
        class_steps(new, len(taxonomy.names)),
        request.policy,
        request.setting,
    )


def _cut(
    request: _Request, taxonomy: Taxonomy, order: list[int], matched: re.Match[str]
) -> list[list[int]]:
    """The ordered classes, cut into steps of X and Y."""
    first, later = int(matched['first']), int(matched['later'])
    size = f'{first}-{later}'
    counting = request.get('counting')
    if counting not in (None, 'background', 'foreground'):
        raise InputError(
            f'protocol {request.name!r}: counting={counting!r} is unknown; '
            "use 'background' or 'foreground'."
        )
    background = int(taxonomy.has_background)
    voc_like = background and not taxonomy.background_added and len(taxonomy.names) == 21
    counted = counting == 'background' or (counting is None and voc_like and size in COUNTED)
    start = first if counted else first + background
    total = len(order)
    if first < 1 or later < 1 or start >= total:
        most = total - 1 - (0 if counted else background)
        raise InputError(
            f'protocol {request.name!r}: {size} does not fit the {total} classes of '
            f'{taxonomy.dataset!r} ({"with" if background else "without"} background): X must '
            f'be from 1 to {most} and Y at least 1. For all classes in one step use '
            f'{matched["family"]}_joint.'
        )
    return [order[:start], *(order[i : i + later] for i in range(start, total, later))]


def _class_order(request: _Request, taxonomy: Taxonomy) -> list[int]:
    """All class ids in the order they come, the background first."""
    first = [0] if taxonomy.has_background else []
    order = request.get('class_order')
    if order is None:
        return [*first, *taxonomy.foreground]
    where = f'protocol {request.name!r}: class_order'
    if isinstance(order, Mapping):
        seed = order.get('seed')
        if set(order) != {'seed'} or isinstance(seed, bool) or not isinstance(seed, int):
            raise InputError(f'{where} must be a list of classes or dict(seed=NUMBER).')
        if not 0 <= seed < 2**32:
            raise InputError(f'{where}: the seed must be from 0 to 2**32 - 1, not {seed}.')
        shuffled = np.random.RandomState(seed).permutation(taxonomy.foreground)
        return [*first, *(int(c) for c in shuffled)]
    ids = [_class_id(taxonomy, c, where) for c in _as_list(order, where)]
    if first and 0 in ids and ids[0] != 0:
        raise InputError(f'{where}: the background must come first, or be left out.')
    ids = ids if not first or ids[:1] == [0] else [0, *ids]
    twice = sorted({c for c in ids if ids.count(c) > 1})
    if twice:
        raise InputError(f'{where}: {_names(taxonomy, twice)} listed twice; list each class once.')
    missing = [c for c in range(len(taxonomy.names)) if c not in ids]
    if missing:
        raise InputError(
            f'{where}: {_names(taxonomy, missing)} missing; list every class once (to leave '
            'classes out for good, list the classes of each step in steps).'
        )
    return ids


def _listed_classes(request: _Request) -> ClassProtocol:
    why = 'does not go with steps that list their classes'
    request.refuse(('class_order', 'counting', 'split', 'domain_steps', 'strict'), why)
    where = f'protocol {request.name!r}'
    steps = _as_list(request.cfg['steps'], f'{where}: steps')
    taxonomy = _listed_taxonomy(request, steps)
    new = []
    for index, listed in enumerate(steps):
        here = f'{where}: step {index}'
        new.append([_class_id(taxonomy, c, here) for c in _as_list(listed, here)])
    if taxonomy.has_background and new and new[0]:
        if all(0 not in step for step in new):
            new[0].insert(0, 0)
        elif 0 in new[0]:
            # Wherever it is listed in step 0, it is output 0.
            new[0].sort(key=bool)
    return ClassProtocol(
        request.name,
        taxonomy,
        class_steps(new, len(taxonomy.names)),
        request.policy,
        request.setting,
    )


def _listed_taxonomy(request: _Request, steps: Sequence[Any]) -> Taxonomy:
    """The classes of listed steps: the data set's, or those that a trained network adds to."""
    dataset = request.get('dataset', 'dataset')
    known = (request.get('checkpoint') or {}).get('classes')
    if known is None and request.get('labels') is None:
        return request.taxonomy(dataset)
    where = f'protocol {request.name!r}'
    listed = [_as_list(step, f'{where}: step {i}') for i, step in enumerate(steps)]
    known, added = read_classes(listed, known, where)
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


def _listed_domains(request: _Request) -> Protocol:
    request.refuse(('class_order', 'counting', 'split', 'labels'), 'does not go with domains')
    return listed_domains(
        request.name,
        request.taxonomy(request.get('dataset', 'dataset'), domain=True),
        request.policy,
        request.cfg['domains'],
        request.get('domain_steps'),
        request.get('strict', True),
    )


def cities(request: _Request, family: str, matched: re.Match[str]) -> Protocol:
    """Build a protocol by city of Cityscapes: a :data:`~.families.Builder`."""
    why = 'does not go with a protocol by city'
    request.refuse(('class_order', 'counting', 'domain_steps', 'strict'), why)
    if request.get('dataset', 'cityscapes') != 'cityscapes':
        raise InputError(f'protocol {request.name!r} is for Cityscapes; take dataset out.')
    split = request.get('split', 'clean')
    if split not in CITY_SPLITS:
        raise InputError(
            f'protocol {request.name!r}: split={split!r} is unknown; '
            f'use {" or ".join(map(repr, CITY_SPLITS))}.'
        )
    sizes = None if matched['joint'] else (int(matched['first']), int(matched['later']))
    taxonomy = request.taxonomy('cityscapes', domain=True)
    return city_protocol(request.name, taxonomy, request.policy, sizes, split)


def _as_list(value: Any, where: str) -> list[Any]:
    if isinstance(value, Mapping):
        raise InputError(
            f'{where} must be a list of classes, not {value!r}: a later step has no data set of '
            'its own. For images in another folder extend the network that the walk ends with, by '
            'mmseg-cil extend (docs/extend.md).'
        )
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(f'{where} must be a list, not {value!r}.')
    return list(value)


def _class_id(taxonomy: Taxonomy, value: Any, where: str) -> int:
    """The class id of a name or an id."""
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < len(taxonomy.names):
            return value
        raise InputError(
            f'{where}: there is no class {value}; the ids of {taxonomy.dataset!r} are 0 to '
            f'{len(taxonomy.names) - 1}.'
        )
    text = str(value).strip()
    if text in taxonomy.names:
        return taxonomy.names.index(text)
    if text in taxonomy.left_out:
        raise InputError(f'{where}: the class {text!r} is left out, for its id is among void_ids.')
    near = difflib.get_close_matches(text, taxonomy.names, 3)
    hint = f'; did you mean {" or ".join(near)}' if near else ''
    listed = ', '.join(taxonomy.names[:30]) + (', ...' if len(taxonomy.names) > 30 else '')
    raise InputError(f'{where}: {taxonomy.dataset!r} has no class {text!r}{hint}. It has {listed}.')


def _names(taxonomy: Taxonomy, classes: Sequence[int]) -> str:
    return ', '.join(taxonomy.names[c] for c in classes)
