"""Construction of a protocol from the ``protocol`` of a config.

Only the key ``name`` is always needed. The keys of ``protocol = dict(...)`` are:

- ``name``: a named protocol (``voc_X-Y``, ``ade20k_X-Y``,
  ``cityscapes_X-Y``, ``cityscapes_domain_X-Y``, ``..._joint``), or
  any word for a protocol that the config lists. ``X-Y`` are X foreground
  classes first, then Y a step; only ``voc_11-5``, ``voc_11-1`` and
  ``voc_1-1`` count the background among the X.
- ``steps``: classes by step, by name or class id, over ``dataset``.
  A background that is not listed joins step 0. Classes that no
  step lists never come: they are background to the end.
  ``dict(classes=[...], data=dict(...))`` is a step with a data set of
  its own, see :mod:`mmseg_cil.protocols.own_data`.
- ``domains``: one ``dict(name=..., pattern=...)`` or ``dict(name=...,
  list_file=...)`` for each domain, with ``domain_steps``, the domains by
  step (default: one a step). ``strict=False`` leaves out images of no
  domain. With ``data=dict(...)`` a domain has a data set of its own, and
  holds all its images where there is neither pattern nor list.
- ``dataset``: ``voc``, ``ade20k``, ``cityscapes`` or any word for a
  dataset of your own. With such a word, ``WORD_X-Y`` and ``WORD_joint``
  are names too.
- ``setting``: ``overlapped`` (default), ``disjoint``, ``sequential``.
  Protocols by domain keep every label, whatever the setting.
- ``preset`` and ``policy``: see :class:`Policy`.
- ``class_order``: all classes (names or class ids) in order, or
  ``dict(seed=n)``: NumPy's ``RandomState(n).permutation`` of the
  foreground. The background stays first.
- ``counting``: whether ``X-Y`` counts the background among the X
  (``'background'``) or not (``'foreground'``), whatever the name.
- ``background``: see :meth:`Taxonomy.from_classes`.
- ``void_ids``: mask ids besides 255 of pixels that belong to no class. A
  class of such an id is left out, and class ids count without it. A dataset's
  config may have the key too, for its own masks.
- ``checkpoint``: ``dict(config=..., checkpoint=..., classes=[...])``, a network
  that was trained elsewhere and is step 0 of the walk. ``classes`` are its
  outputs; the walk reads them from the file where they are not given. With
  ``steps`` the data need not have the network's classes. ``revise_keys`` are
  MMEngine's.
- ``labels``: the mask id of each class, such as ``{'horse': 1, 'sheep': 7}``, with
  ``steps``: for data whose masks hold new classes alone. Classes without an id in
  ``labels`` do not occur in the masks, and 0, where no class has it, is unlabelled.
- ``split``: ``'clean'`` (default) or ``'legacy'``, for Cityscapes by city.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from mmseg_cil.errors import InputError
from mmseg_cil.protocols.base import SETTINGS, Protocol
from mmseg_cil.protocols.by_class import ClassProtocol, class_steps
from mmseg_cil.protocols.by_domain import CITY_SPLITS, city_protocol
from mmseg_cil.protocols.families import NAME, PROTOCOLS
from mmseg_cil.protocols.listed import listed_classes, listed_domain_protocol
from mmseg_cil.protocols.policy import Policy
from mmseg_cil.protocols.request import Request, as_list, class_id_of, names_of
from mmseg_cil.protocols.taxonomy import Taxonomy

COUNTED = ('11-5', '11-1', '1-1')
"""The sizes that count the background among the 21 classes of VOC.

Also those of other datasets with 21 classes of which the first is the background.
"""

_KEYS = (
    'name', 'dataset', 'setting', 'preset', 'policy', 'class_order', 'counting', 'background',
    'split', 'steps', 'domains', 'domain_steps', 'strict', 'void_ids', 'checkpoint', 'labels',
)  # fmt: skip


def build_protocol(
    cfg: Mapping[str, Any],
    classes: Sequence[str] | None = None,
    reduce_zero_label: bool = False,
) -> Protocol:
    """Return the protocol that a config asks for.

    Args:
        cfg: The ``protocol`` of a config, with the keys that this module's docstring lists.
        classes: The classes of the dataset class (``METAINFO``).
        reduce_zero_label: The ``reduce_zero_label`` of the dataset class.

    Raises:
        InputError: A setting is wrong; the message says which and where.

    Example:
        >>> protocol = build_protocol({'name': 'voc_15-1'})
        >>> len(protocol.steps), protocol.class_names(protocol.steps[1].new)
        (6, ['pottedplant'])
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
        return listed_classes(request) if listed == ['steps'] else listed_domain_protocol(request)
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
) -> Request:
    """Check the settings that all kinds of protocols share, and return them."""
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
    return Request(cfg, cfg['name'], setting, policy, classes, reduce_zero_label)


def _unknown(name: str) -> NoReturn:
    families = [f'{family}_X-Y' for family in PROTOCOLS.built()]
    near = difflib.get_close_matches(name, PROTOCOLS.named(), 3, 0.5)
    hint = f' Near to it: {", ".join(near)}.' if near else ''
    raise InputError(
        f'unknown protocol {name!r}.{hint} There are {", ".join(families)} (as in voc_15-1) and '
        'DATASET_joint; for an own one give steps=[[class, ...], ...] or domains=[dict(name=..., '
        'pattern=...), ...], or name it WORD_X-Y with dataset=WORD.'
    )


def sized_classes(request: Request, family: str, matched: re.Match[str]) -> ClassProtocol:
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
    request: Request, taxonomy: Taxonomy, order: list[int], matched: re.Match[str]
) -> list[list[int]]:
    """Cut the ordered classes into steps of X and Y."""
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


def _class_order(request: Request, taxonomy: Taxonomy) -> list[int]:
    """Return all class ids in the order of the steps, the background first."""
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
    ids = [class_id_of(taxonomy, c, where) for c in as_list(order, where)]
    if first and 0 in ids and ids[0] != 0:
        raise InputError(f'{where}: the background must come first, or be left out.')
    ids = ids if not first or ids[:1] == [0] else [0, *ids]
    twice = sorted({c for c in ids if ids.count(c) > 1})
    if twice:
        raise InputError(
            f'{where}: {names_of(taxonomy, twice)} listed twice; list each class once.'
        )
    missing = [c for c in range(len(taxonomy.names)) if c not in ids]
    if missing:
        raise InputError(
            f'{where}: {names_of(taxonomy, missing)} missing; list every class once (to leave '
            'classes out for good, list the classes of each step in steps).'
        )
    return ids


def cities(request: Request, family: str, matched: re.Match[str]) -> Protocol:
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
