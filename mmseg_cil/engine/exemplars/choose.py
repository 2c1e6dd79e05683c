"""Choosing exemplars among the images of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.nn import functional

from mmseg_cil.engine.data import dataset_of_step
from mmseg_cil.engine.exemplars.balanced import choose_in_rounds
from mmseg_cil.engine.exemplars.passes import over_images
from mmseg_cil.engine.paths import run_seed
from mmseg_cil.engine.walk import Walk
from mmseg_cil.memory.memory import ExemplarMemory, MemorySettings
from mmseg_cil.memory.selection import (
    Lists,
    herding_order,
    keep_in_turns,
    keep_per_group,
    random_order,
    region_features,
    regions,
)
from mmseg_cil.models.teacher import Teacher
from mmseg_cil.protocols import Protocol
from mmseg_cil.registry import DATASETS

#: The region features of one image, by group.
Features = dict[str, np.ndarray]


@dataclass(frozen=True)
class Group:
    """A group of images among which exemplars are chosen separately from other groups.

    Attributes:
        name: A class's name, 'domains of step K', or 'all'.
        label: The class's model id; None: the group has images of any class.
        mask_id: The class's value in masks; None as for ``label``.
        share: Weight of the group in turns and quotas.
    """

    name: str
    label: int | None = None
    mask_id: int | None = None
    share: int = 1


def groups_of_step(protocol: Protocol, step: int, settings: MemorySettings) -> list[Group]:
    """Return the groups for which a step brings candidates.

    In a walk by class, there is one group for each new foreground class. (The background has no
    group: it is in every image.) In a walk by domain, there is one group for all new domains
    together, whose share is the number of these domains. A random selection within one budget
    has a single group, to which all steps add.
    """
    if settings.is_one_pool:
        return [Group('all')]
    current = protocol.steps[step]
    if protocol.kind == 'domain':
        return [Group(f'domains of step {step}', share=len(current.domains))]
    taxonomy = protocol.taxonomy
    return [
        Group(taxonomy.names[c], current.seen.index(c), taxonomy.mask_ids[c])
        for c in current.new
        if c in taxonomy.foreground
    ]


def choose_exemplars(
    walk: Walk, step: int, settings: MemorySettings, former: ExemplarMemory | None
) -> ExemplarMemory:
    """Choose exemplars among a step's own images and among those kept before.

    Lists of exemplars that were kept before are shortened.

    Args:
        walk: The walk.
        step: A step that has been trained.
        settings: Settings of the memory.
        former: The exemplars that were kept before; None at first.

    Returns:
        The new memory, which is equal on all processes. It is empty after a first step that
        was trained elsewhere and whose images are gone.
    """
    protocol, seed = walk.protocol, run_seed(walk.cfg)
    if not walk.train_images[step] and former is None:
        return ExemplarMemory(
            protocol.beginning_fingerprint(step), settings.choice(seed), step, {}, {}
        )
    view = DATASETS.build(
        dataset_of_step(walk.cfg, step, 'train', str(walk.work_dir), protocol.pools_splits)
    )
    names, presence = view.image_names, view.presence()
    first = {name: index for index, name in reversed(list(enumerate(names)))}
    own = np.array(sorted(first.values()), np.int64)
    groups = groups_of_step(protocol, step, settings)
    members = {
        group.name: own if group.mask_id is None else own[presence[own, group.mask_id]]
        for group in groups
    }
    lists = dict(former.lists) if former else {}
    if settings.selection == 'balanced':
        kept = choose_in_rounds(walk, step, settings, former, view, own.tolist(), members)
        return _memory(walk, step, settings, former, kept, set(first))
    if settings.selection == 'herding':
        features = _features(walk, step, view, groups, members)
        for name, indices in members.items():
            rows = np.array([features[index][name] for index in indices.tolist()])
            order = herding_order(rows, settings.budget * _shares(protocol, [name])[name])
            lists[name] = tuple(names[indices[place]] for place in order)
    else:
        key = seed if settings.seed is None else settings.seed
        for name, indices in members.items():
            merged = list(dict.fromkeys([*lists.get(name, ()), *(names[i] for i in indices)]))
            lists[name] = tuple(merged[place] for place in random_order(merged, key, name))
    keep = keep_per_group if settings.per == 'class' else keep_in_turns
    kept = keep(lists, settings.budget, _shares(protocol, lists))
    chosen = {name for group in members for name in kept[group]}
    return _memory(walk, step, settings, former, kept, chosen & set(first))


def _memory(
    walk: Walk,
    step: int,
    settings: MemorySettings,
    former: ExemplarMemory | None,
    kept: Lists,
    chosen_now: set[str],
) -> ExemplarMemory:
    """Return the memory of the kept images, of which some were chosen at this step.

    An image that is chosen again is stored again: it has the labels of this step.
    """
    before = former.stored if former else {}
    stored = {
        name: step if name in chosen_now else before[name]
        for group in kept.values()
        for name in group
    }
    return ExemplarMemory(
        walk.protocol.beginning_fingerprint(step),
        settings.choice(run_seed(walk.cfg)),
        step,
        kept,
        stored,
    )


def _shares(protocol: Protocol, names: Iterable[str]) -> dict[str, int]:
    """Return the share of groups, also of earlier steps, by their names."""
    domains = {f'domains of step {each.index}': len(each.domains) for each in protocol.steps}
    return {name: domains.get(name, 1) if protocol.kind == 'domain' else 1 for name in names}


def _features(
    walk: Walk, step: int, view: Any, groups: Sequence[Group], members: Mapping[str, np.ndarray]
) -> dict[int, Features]:
    """Return the region features of every candidate, by its index in the view.

    The features are equal on all processes.
    """
    wanted: dict[int, list[Group]] = {}
    for group in groups:
        for index in members[group.name].tolist():
            wanted.setdefault(index, []).append(group)
    return over_images(
        walk,
        step,
        view,
        sorted(wanted),
        lambda network, batch, index: _image_features(network, batch, wanted[index]),
    )


def _image_features(network: Teacher, batch: Any, groups: Sequence[Group]) -> Features:
    data = network.network.data_preprocessor(batch, False)
    inputs, labels = data['inputs'], data['data_samples'][0].gt_sem_seg.data[0]
    # A preprocessor may have padded the image at its lower right.
    padding = (0, inputs.shape[-1] - labels.shape[-1], 0, inputs.shape[-2] - labels.shape[-2])
    labels = functional.pad(labels, padding, value=255).to(inputs.device)
    members = regions(labels, [group.label for group in groups])
    features = region_features(network(inputs).embedding[0], members).cpu().numpy()
    return {group.name: row for group, row in zip(groups, features, strict=True)}
