"""The records that parts of a method receive: a network's outputs, and a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mmseg_cil.errors import InputError

if TYPE_CHECKING:
    # The losses are built on these records, so the import must not happen at run time.
    from mmseg_cil.losses.pixel_logits import PixelLogits

#: The output of a backbone (and neck): a map, or maps from shallow to deep. A transformer with a
#: class token has the pair of a map and its token in place of a map.
Features = Tensor | Sequence[Tensor | Sequence[Tensor]]
#: Collated samples of a loader, for the model's data preprocessor. MMSegmentation's samples have
#: the lists ``inputs`` and ``data_samples``; a data set may add further keys.
DataBatch = dict[str, Any]


@dataclass(frozen=True)
class NetworkOutput:
    """The outputs of student or teacher for one batch.

    Attributes:
        features: Maps of the backbone (and neck), shallow to deep, each
            ``(N, D_i, H_i, W_i)``. Class tokens of a transformer are left out.
        embedding: ``(N, D, h, w)``, the input of the classifier, before the
            classifier's dropout.
        logits: ``(N, C, h, w)``, the classifier's output, not upsampled. The
            student's logits are computed with dropout, where the head has any.
        align_corners: The head's ``align_corners`` for upsampling the logits.
        pre_activations: The backbone's stages before their last activation,
            shallow to deep, if they are needed and the backbone has them
            (see :func:`~mmseg_cil.models.network_output.tap_stages`); otherwise empty.
        auxiliary: Logits ``(N, C, h_i, w_i)`` of the auxiliary heads, in their
            order, in a teacher's record if they are needed; otherwise empty.
        classifier: ``(C, D)``, the rows of the classifier at the time of the run,
            detached; None if the rows were not recorded.

    In the record of a teacher whose outputs nobody needs (:attr:`Needs.outputs`), ``embedding``
    and ``logits`` are a :class:`NotComputed`.
    """

    features: tuple[Tensor, ...]
    embedding: Tensor
    logits: Tensor
    align_corners: bool = False
    pre_activations: tuple[Tensor, ...] = ()
    auxiliary: tuple[Tensor, ...] = ()
    classifier: Tensor | None = None


class NotComputed:
    """The place of a map that no distiller needs; using it is an error that says so."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        raise InputError(
            'a distiller reads embedding or logits of a teacher, and says by needs = '
            'Needs(..., outputs=False) in its class that it does not: leave outputs out there'
        )


@dataclass(frozen=True)
class Needs:
    """The parts of a :class:`Batch` that a distiller reads.

    Parts that no distiller needs are neither loaded nor computed.

    Attributes:
        teacher: Whether to provide the record of the last step's checkpoint, as
            ``batch.teacher``.
        teachers: The checkpoints whose records are provided by name, as ``batch.teachers``:
            'all' (those of the earlier steps, with ``method.teachers='all'``, and of sub-steps),
            or names such as ``('new_data',)``.
        auxiliary: Whether to provide the logits of the auxiliary heads: the student's as
            ``batch.auxiliary``, the teachers' as ``batch.teachers[name].auxiliary``.
        pre_activations: Whether to provide the backbone's stages before their last activation,
            in all records.
        outputs: Whether the embedding and the logits of teachers are read. Where nobody reads
            them, the teachers run without their heads.

    Raises:
        InputError: ``teachers`` is neither 'all' nor a sequence of names.
    """

    teacher: bool = False
    teachers: str | Sequence[str] = ()
    auxiliary: bool = False
    pre_activations: bool = False
    outputs: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.teachers, str) and self.teachers != 'all':
            raise InputError(
                f"Needs: teachers must be 'all' or a sequence of names, got {self.teachers!r}: "
                f'write ({self.teachers!r},) for a single name'
            )

    @property
    def all_teachers(self) -> bool:
        """Return whether every named checkpoint is read."""
        return self.teachers == 'all'

    @property
    def names(self) -> tuple[str, ...]:
        """Return the checkpoints that are read by their name; empty with 'all'."""
        return () if self.all_teachers else tuple(self.teachers)


@dataclass(frozen=True)
class Batch:
    """The data of one training batch for a distiller.

    Attributes:
        student: Record of the student's run.
        pixels: The student's logits at the pixels of the labels, with cuts at 1, at the
            number of classes that each teacher knows, and at the indices of the distiller's
            :meth:`~mmseg_cil.contracts.Distiller.cuts`. ``pixels.upsampled`` is the logits
            ``(N, C, H, W)``, ``pixels.labels`` the model ids ``(N, H, W)``, 255 ignored.
        last: Record of the last step's checkpoint on the same images; None if the distiller
            does not need it. :attr:`teacher` is the same record, but never None.
        teachers: Records of the named checkpoints that are needed (and drawn), by name.
        auxiliary: For each auxiliary head that classifies, its logits in the form of
            ``pixels``, if needed; None for a head that has no maps of logits.
        replayed: Number of images at the end of the batch that a generator drew. These images
            have no labels.
    """

    student: NetworkOutput
    pixels: PixelLogits
    last: NetworkOutput | None = None
    teachers: Mapping[str, NetworkOutput] = field(default_factory=dict)
    auxiliary: Sequence[PixelLogits | None] = ()
    replayed: int = 0

    @property
    def teacher(self) -> NetworkOutput:
        """Return the record of the last step's checkpoint.

        Raises:
            InputError: The distiller does not declare that it needs the record.
        """
        if self.last is None:
            raise InputError(
                'a distiller reads batch.teacher without asking for it: write needs = '
                'Needs(teacher=True) in its class'
            )
        return self.last

    def for_needs(self, needs: Needs) -> Batch:
        """Return the batch without the parts that a distiller does not need."""
        return replace(
            self,
            last=self.last if needs.teacher else None,
            teachers=self.teachers
            if needs.all_teachers
            else {name: self.teachers[name] for name in needs.names if name in self.teachers},
            auxiliary=self.auxiliary if needs.auxiliary else (),
        )
