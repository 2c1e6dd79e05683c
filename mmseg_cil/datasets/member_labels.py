"""The labels of a step for the masks of each data set, and the pipelines that write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.dataset import Compose

from mmseg_cil.datasets.kept_masks import KeptMasks
from mmseg_cil.datasets.members import Member
from mmseg_cil.datasets.pipeline import PLACE, step_pipeline, with_further_map
from mmseg_cil.datasets.sample_pipeline import SamplePipeline
from mmseg_cil.errors import InputError
from mmseg_cil.memory.replay import Replay
from mmseg_cil.protocols import Protocol
from mmseg_cil.protocols.tables import Table


@dataclass(frozen=True)
class MemberLabels:
    """The labels of a data set's pixels at a step.

    Attributes:
        table: uint8 (256,): the label by the data set's own mask id.
        hidden: Model ids that the label 0 may stand for besides the class 0; None: the rule of
            the step decides (``StepContext.num_hidden``).
    """

    table: Table
    hidden: tuple[int, ...] | None = None


def labels_of(member: Member, protocol: Protocol, step: int, split: str) -> MemberLabels:
    """Return the labels of a data set at a step.

    Args:
        member: The data set.
        protocol: Protocol of the walk.
        step: The step.
        split: ``'train'`` or ``'test'``.
    """
    meaning = member.meaning.table
    if split == 'test':
        return MemberLabels(protocol.test_table(step)[meaning])
    if not protocol.own_data:
        return MemberLabels(protocol.train_table(step)[meaning])
    current = protocol.steps[step]
    used = member.own is not None and member.own.old_labels == 'used'
    shows_all = used or not _hides_by_rule(protocol)
    table = protocol.exemplar_table(step, current.seen) if shows_all else protocol.train_table(step)
    labels = table[meaning]
    if not shows_all:
        if current.old and protocol.old_labels_hidden and member.meaning.unlabelled:
            # Without a background the label 0 stands for one of the old classes.
            labels[sorted(member.meaning.unlabelled)] = 0
        return MemberLabels(labels)
    if protocol.taxonomy.has_background:
        return MemberLabels(labels, _unlabelled(member, current.seen))
    # The label 0 is the class 0 and no other class.
    return MemberLabels(labels, () if protocol.old_labels_hidden else None)


def _unlabelled(member: Member, seen: Sequence[int]) -> tuple[int, ...]:
    """Return the model ids of foreground classes that nobody has labelled in a data set."""
    return tuple(i for i, c in enumerate(seen) if i and c not in member.meaning.labelled)


def _hides_by_rule(protocol: Protocol) -> bool:
    return protocol.kind == 'class' and protocol.setting != 'sequential'


def with_own_ids(
    replay: Replay, places: np.ndarray, members: Sequence[Member], protocol: Protocol, step: int
) -> Replay:
    """Return exemplars whose tables start from the mask ids of their own data sets.

    Args:
        replay: E exemplars, with tables from the protocol's mask ids.
        places: (E,) the data set of each exemplar.
        members: The data sets.
        protocol: Protocol of the walk.
        step: The step that replays.
    """
    by_place = {member.place: member for member in members}
    seen = protocol.steps[step].seen
    tables, hidden = [], []
    for place, table, former in zip(places.tolist(), replay.tables, replay.hidden, strict=True):
        member = by_place[place]
        tables.append(table[member.meaning.table])
        # Nobody has labelled the classes of another data set in this one.
        lost = _unlabelled(member, seen) if protocol.taxonomy.has_background else ()
        hidden.append(tuple(sorted({*former, *lost})))
    return Replay(replay.rows, tables, hidden)


def build_pipelines(
    members: Sequence[Member],
    labels: Mapping[int, MemberLabels],
    pipeline: Sequence[Any] | None,
    further_map: Mapping[str, Any] | None,
    split: str,
    keep_masks: float = 0,
) -> dict[int, SamplePipeline]:
    """Return the transforms of each data set, with the labels of the step.

    Args:
        members: The data sets.
        labels: The labels of each data set, by its place.
        pipeline: Pipeline of the config's data set, and of data sets without a pipeline; None: the
            pipeline of the first leaf.
        further_map: A transform that goes behind ``LoadAnnotations`` in the pipelines of the
            data sets that steps bring; the pipeline of the config's data set has it already.
        split: ``'train'`` or ``'test'``.
        keep_masks: Megabytes of decoded masks that are kept, over all data sets.

    Raises:
        InputError: A pipeline packs nothing, or loads no annotations.
    """
    result = {}
    kept = KeptMasks(keep_masks) if keep_masks else None
    for member in members:
        first = member.first
        given = first.pipeline
        if pipeline is not None and (member.own is None or not given):
            given = list(pipeline)
        elif further_map is not None:
            given = with_further_map(given, further_map)
        table = labels[member.place].table
        try:
            transforms = step_pipeline(given, table, first.reduce_zero_label)
            result[member.place] = SamplePipeline(transforms, split, kept)
            if member.own is not None and not _loads_masks(result[member.place]):
                raise InputError('its pipeline has no LoadAnnotations, so that no mask is read')
        except InputError as error:
            if member.own is None:
                raise
            raise InputError(f'{member.own.where}, data.{split}: {error}') from error
    return result


def _loads_masks(pipeline: SamplePipeline) -> bool:
    """Return whether a pipeline loads masks, perhaps in ``TestTimeAug`` or by its own loader."""
    return any(
        'Annotation' in kind
        or kind == 'TestTimeAug'
        or (kind.startswith('Load') and not kind.startswith('LoadImage'))
        for kind in pipeline.kinds
    )


class PipelinesByData:
    """The pipelines of several data sets as one; a sample goes through its data set's pipeline.

    Args:
        by_place: Pipelines by the place of the data set, which a sample holds as ``cil_place``.
    """

    def __init__(self, by_place: Mapping[int, Compose]) -> None:
        self.by_place = dict(by_place)

    @property
    def transforms(self) -> list[Any]:
        """Return the transforms of all pipelines, one data set after the other."""
        return [each for pipeline in self.by_place.values() for each in pipeline.transforms]

    def __call__(self, data: dict) -> Any:
        """Load and change one sample."""
        return self.by_place[data[PLACE]](data)

    def until(self, data: dict, key: str) -> Any:
        """Apply the transforms up to the first that makes a key."""
        pipeline: Any = self.by_place[data[PLACE]]
        return pipeline.until(data, key)
