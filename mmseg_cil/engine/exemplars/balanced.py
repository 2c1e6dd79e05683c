"""The choice of exemplars in rounds over the classes, by all that an image shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mmseg_cil.engine.exemplars.passes import over_images
from mmseg_cil.engine.paths import run_seed
from mmseg_cil.engine.walk import Walk
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.memory.memory import ExemplarMemory, MemorySettings
from mmseg_cil.memory.selection import Lists, keep_in_rounds, random_order
from mmseg_cil.models.teacher import Teacher

#: The groups that each candidate belongs to, by its name.
Shown = dict[str, set[str]]


def choose_in_rounds(
    walk: Walk,
    step: int,
    settings: MemorySettings,
    former: ExemplarMemory | None,
    view: Any,
    own: Sequence[int],
    members: Mapping[str, np.ndarray],
) -> Lists:
    """Return the images that each class (or the domains of each step) keeps after a step.

    Candidates are the step's own images and those that were kept before. An own image shows the
    classes of its labels and, where the labels hide old classes, those that the step's network
    predicts there with confidence; an image that was kept before shows the classes of its mask that
    were known when it was stored. Candidates and classes are shuffled, and classes take turns.

    Source: clovaai/SSUL ``utils/memory.py``, ``memory_sampling_balanced`` (with a confidence of
    0.7); cvlab-yonsei/DKD and jinpeng0528/STAR (0.9), where the predicting network is not trained
    from the second memory on (its weights are loaded afterwards), which costs balance; here it is
    trained. The shuffling by hashes is ours: it depends on names and seed alone.

    Args:
        walk: The walk.
        step: A step that has been trained.
        settings: Settings of the memory.
        former: The exemplars that were kept before; None at first.
        view: View of the step's own training images.
        own: Indices of the step's own images, each image once.
        members: Indices of the own images of each new group.

    Returns:
        Lists of all groups so far, equal on all processes; an image is in one list.
    """
    groups = [*(name for name in (former.lists if former else {}) if name not in members), *members]
    shown = _kept_before(walk, former, view)
    names = view.image_names
    for name, indices in members.items():
        for index in indices.tolist():
            shown.setdefault(names[index], set()).add(name)
    for index, found in _predicted(walk, step, settings, view, own).items():
        shown.setdefault(names[index], set()).update(found)
    key = run_seed(walk.cfg) if settings.seed is None else settings.seed
    listed = sorted(shown)
    candidates = [listed[place] for place in random_order(listed, key, 'balanced')]
    turns = [groups[place] for place in random_order(groups, key, f'turns of step {step}')]
    kept = keep_in_rounds([(name, shown[name]) for name in candidates], turns, settings.budget)
    return {group: kept[group] for group in groups}


def _kept_before(walk: Walk, former: ExemplarMemory | None, view: Any) -> Shown:
    """Return the groups of the images that were kept before."""
    if former is None:
        return {}
    protocol = walk.protocol
    if protocol.kind == 'domain':
        return {name: {group} for group, names in former.lists.items() for name in names}
    index, taxonomy = view.class_index(), protocol.taxonomy
    row_of = {name: row for row, name in enumerate(index.names)}
    shown: Shown = {}
    for name in former.names:
        known = protocol.steps[former.stored[name]].seen
        there = index.presence[row_of[name]]
        shown[name] = {
            taxonomy.names[c]
            for c in known
            if c in taxonomy.foreground and there[taxonomy.mask_ids[c]]
        }
    return shown


def _predicted(
    walk: Walk, step: int, settings: MemorySettings, view: Any, own: Sequence[int]
) -> dict[int, list[str]]:
    """Return the old classes that each own image shows, by the image's index."""
    protocol = walk.protocol
    current, taxonomy = protocol.steps[step], protocol.taxonomy
    old = [c for c in current.seen if c not in current.new and c in taxonomy.foreground]
    if protocol.kind == 'domain' or not old:
        return {}
    if not protocol.old_labels_hidden:
        there = view.presence()
        return {
            index: [taxonomy.names[c] for c in old if there[index, taxonomy.mask_ids[c]]]
            for index in own
        }
    ids = {current.seen.index(c): taxonomy.names[c] for c in old}

    def read(network: Teacher, batch: Any, index: int) -> list[str]:
        data = network.network.data_preprocessor(batch, False)
        labels = data['data_samples'][0].gt_sem_seg.data[0].to(data['inputs'].device)
        logits = network.image_logits(data['inputs'])[0]
        logits = logits[:, : labels.shape[0], : labels.shape[1]]
        found = confident_classes(logits, labels, settings.confidence, taxonomy.has_background)
        return [ids[model_id] for model_id in found if model_id in ids]

    return over_images(walk, step, view, own, read)


def confident_classes(
    logits: Tensor, labels: Tensor, confidence: float, has_background: bool = True
) -> list[int]:
    r"""Return the classes that a network predicts with confidence where the label is 0.

    The confidence of a class is its probability against the background,
    :math:`\sigma(z_c - z_0)`. For a network of sigmoids whose background is 0 everywhere this is
    the class's sigmoid; for a softmax it leaves out the other classes (ours). Without a background
    it is the softmax.

    Args:
        logits: ``(C, H, W)``.
        labels: ``(H, W)`` model ids, or 255.
        confidence: The least confidence.
        has_background: Whether class 0 is the background, which is not returned.
    """
    values = at_least_float32(logits)
    classes = values.argmax(dim=0)
    if has_background:
        sure = (values.amax(dim=0) - values[0]).sigmoid() >= confidence
        sure &= classes > 0
    else:
        sure = functional.softmax(values, dim=0).amax(dim=0) >= confidence
    found: list[int] = torch.unique(classes[sure & (labels == 0)]).tolist()
    return found
