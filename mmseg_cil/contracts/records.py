"""The records that parts of a method are given: a network's outputs, and a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mmseg_cil.errors import InputError

if TYPE_CHECKING:
    # It is of the losses, which are built on these records.
    from mmseg_cil.losses.pixel_logits import PixelLogits

#: What a backbone (and neck) returns: a map, or maps from shallow to deep; where a transformer
#: has a class token, the pair of a map and its token.
Features = Tensor | Sequence[Tensor | Sequence[Tensor]]
#: Samples that a loader has put together, for the model's data preprocessor. MMSegmentation's
#: have the lists ``inputs`` and ``data_samples``; what else they have is the data set's affair.
DataBatch = dict[str, Any]


@dataclass(frozen=True)
class NetworkOutput:
    """The outputs of student or teacher for one batch.

    Attributes:
        features: What the backbone (and neck) returns, shallow to deep, each
            ``(N, D_i, H_i, W_i)``. Where a transformer returns a map and its class
            token, the map.
        embedding: ``(N, D, h, w)``, the input of the classifier, before its
            dropout.
        logits: ``(N, C, h, w)``, the classifier's output, not upsampled. A
            student's were computed with dropout, where its head has any.
        align_corners: How the head upsamples its logits.
        pre_activations: The backbone's stages before their last activation,
            shallow to deep, if they were asked for and the backbone has them
            (see :func:`~mmseg_cil.models.network_output.tap_stages`); otherwise empty.
        auxiliary: Logits ``(N, C, h_i, w_i)`` of the auxiliary heads, in their
            order, if a teacher was asked for them; otherwise empty.
        classifier: ``(C, D)``, the rows of the classifier at the time, detached;
            None if nobody noted them.
    """

    features: tuple[Tensor, ...]
    embedding: Tensor
    logits: Tensor
    align_corners: bool = False
    pre_activations: tuple[Tensor, ...] = ()
    auxiliary: tuple[Tensor, ...] = ()
    classifier: Tensor | None = None


@dataclass(frozen=True)
class Needs:
    """The parts of a :class:`Batch` that a distiller reads.

    What no distiller needs is neither loaded nor computed.

    Attributes:
        teacher: The record of the last step's checkpoint, as ``batch.teacher``.
        teachers: The records of checkpoints by name, as ``batch.teachers``: 'all' of the
            earlier steps (with ``method.teachers='all'``) and of sub-steps, or names such as
            ``('new_data',)``.
        auxiliary: The logits of the auxiliary heads: the student's as
            ``batch.auxiliary``, the teachers' as ``batch.teachers[name].auxiliary``.
        pre_activations: The backbone's stages before their last activation, in all records.

    Raises:
        InputError: ``teachers`` is neither 'all' nor a sequence of names.
    """

    teacher: bool = False
    teachers: str | Sequence[str] = ()
    auxiliary: bool = False
    pre_activations: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.teachers, str) and self.teachers != 'all':
            raise InputError(
                f"Needs: teachers must be 'all' or a sequence of names, got {self.teachers!r}: "
                f'write ({self.teachers!r},) for a single name'
            )

    @property
    def all_teachers(self) -> bool:
        """Every named checkpoint is read."""
        return self.teachers == 'all'

    @property
    def names(self) -> tuple[str, ...]:
        """The checkpoints that are read by their name; empty with 'all'."""
        return () if self.all_teachers else tuple(self.teachers)


@dataclass(frozen=True)
class Batch:
    """What a distiller is given of one batch of training.

    Attributes:
        student: Record of the student's run.
        pixels: The student's logits at the pixels of the labels, with cuts at 1, at the
            number of classes that each teacher knows, and at those of the distiller's
            :meth:`~mmseg_cil.contracts.Distiller.cuts`. ``pixels.upsampled`` is the logits
            ``(N, C, H, W)``, ``pixels.labels`` the model ids ``(N, H, W)``, 255 ignored.
        last: Record of the last step's checkpoint on the same images; None where it was
            not asked for. :attr:`teacher` is the same without None.
        teachers: Records of the named checkpoints that were asked for (and drawn), by name.
        auxiliary: The same as ``pixels`` of each auxiliary head that classifies, if asked
            for; None for a head that has no maps of logits.
        replayed: How many images, at the end of the batch, a generator drew. They have
            no labels.
    """

    student: NetworkOutput
    pixels: PixelLogits
    last: NetworkOutput | None = None
    teachers: Mapping[str, NetworkOutput] = field(default_factory=dict)
    auxiliary: Sequence[PixelLogits | None] = ()
    replayed: int = 0

    @property
    def teacher(self) -> NetworkOutput:
        """Record of the last step's checkpoint.

        Raises:
            InputError: It was not asked for.
        """
        if self.last is None:
            raise InputError(
                'a distiller reads batch.teacher without asking for it: write needs = '
                'Needs(teacher=True) in its class'
            )
        return self.last

    def for_needs(self, needs: Needs) -> Batch:
        """Return the batch without what a distiller did not ask for."""
        return replace(
            self,
            last=self.last if needs.teacher else None,
            teachers=self.teachers
            if needs.all_teachers
            else {name: self.teachers[name] for name in needs.names if name in self.teachers},
            auxiliary=self.auxiliary if needs.auxiliary else (),
        )
