"""The contracts of losses, distillers and regularisers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from mmseg.utils import SampleList
from torch import Tensor, nn

from mmseg_cil.contracts.records import Batch, Needs, NetworkOutput
from mmseg_cil.utils.step_context import StepContext

if TYPE_CHECKING:
    # The losses derive from these contracts, so the import must not happen at run time.
    from mmseg_cil.losses.pixel_logits import PixelLogits


class IterationSeeded:
    """The base of parts that draw random numbers which must be the same on all ranks."""

    def set_iteration_seed(self, seed: int) -> None:
        """Take the seed of the next iteration.

        Args:
            seed: A number made of the run's seed, the step and the iteration, so that a resumed
                run draws the same numbers as an unbroken run.
        """


class MethodPart(IterationSeeded):
    """The base of modules that know the step, such as losses and distillers.

    The class is no ``nn.Module``, so that it can be combined with any class:
    ``class MyLoss(HeadLoss, nn.Module)``.
    """

    #: Type of a hook that the part does not work without; a walk without it is refused.
    needs_hook: ClassVar[str | None] = None
    #: Public names of a part that only look like names of the contract.
    own_names: ClassVar[Sequence[str]] = ()

    def set_step(self, step: StepContext) -> None:
        """Take the classes of the step, once, when the network is built.

        Args:
            step: The step, which tells the old and new outputs, and the old classes that the
                labels hide.
        """


class HeadLoss(MethodPart):
    """A loss in ``loss_decode`` that knows the step; a mixin beside ``nn.Module``.

    The loss is called as MMSegmentation calls losses, ``loss(logits, labels, weight=...,
    ignore_index=...)``, and has a ``loss_name``.

    Attributes:
        knows_hidden_classes: Whether the loss is correct for a label 0 that stands for all old
            classes, none of which is a background. Walks with such labels refuse other losses.
    """

    knows_hidden_classes: bool = False

    def set_turns(self, turns: int) -> None:
        """Take the number of outputs that a class has in training.

        Args:
            turns: Number of outputs; more than 1 with self-supervision, whose further outputs
                come after those of all classes.
        """

    def receive_teacher(self, teacher: NetworkOutput | None) -> None:
        """Take the teacher's record of the batch, before the heads' losses are computed.

        The teacher is the last step's checkpoint, which is loaded and run if a loss overrides
        this method. The method is never called at a step without a teacher.

        Args:
            teacher: The teacher's record; None after the batch.
        """

    def receive_samples(self, samples: SampleList) -> None:
        """Take the batch's samples, before the heads' losses are computed.

        Args:
            samples: Samples with ``gt_sem_seg``, and with the map of the method's
                :class:`FurtherMap`, if it has one, in ``gt_edge_map``.
        """

    def receive_hidden(self, hidden: Tensor | None) -> None:
        """Take the classes that the label 0 of each image may stand for, before the losses.

        Args:
            hidden: ``(N, C)`` bool, True for class 0 too; None where all images follow the
                step's rule (``step.num_hidden``), as they do without exemplars.
        """


class PixelLoss(HeadLoss):
    """A loss in ``loss_decode`` that shares the logits of the pixels with a head's other losses."""

    def cuts(self) -> Sequence[int]:
        """Return the class indices at which the groups begin or end whose log-sum-exps are read.

        See :class:`~mmseg_cil.losses.pixel_logits.PixelLogits`.
        """
        return ()

    def of_pixels(self, pixels: PixelLogits) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            pixels: The logits, and the labels as model ids.
        """
        raise NotImplementedError(f'{type(self).__name__} has no of_pixels(pixels)')


class ComparisonLoss(MethodPart):
    """A loss of a distiller, which compares two networks; a mixin beside ``nn.Module``.

    The loss has a ``loss_name``, under which it is logged.
    """

    def receive_classifier(self, rows: Tensor | None) -> None:
        """Take the rows of the student's classifier, before the loss is computed.

        Args:
            rows: ``(C, D)``, detached; None if the rows were not recorded.
        """


class Distiller(MethodPart, nn.Module):
    """A comparison of the student with teachers for a batch; built where there is a teacher."""

    #: The parts of a batch that the distiller reads; an instance may set its own in ``__init__``.
    needs: Needs = Needs(teacher=True)
    #: Config of an optimizer of the distiller's parameters; by default the network's optimizer
    #: trains them.
    optimizer: Mapping[str, Any] | None = None

    def cuts(self) -> Sequence[int]:
        """Return the class indices at which the groups begin or end whose log-sum-exps are read.

        The index 1 and the number of classes of each teacher are cuts anyway. See
        :class:`~mmseg_cil.losses.pixel_logits.PixelLogits`.
        """
        return ()

    def attach(self, network: nn.Module) -> None:
        """Inspect the segmentor, once it is built.

        Raises:
            InputError: The distiller does not fit the network.
        """

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch by name, and other scalars to log.

        Args:
            batch: The student's record and pixels, and the parts that the distiller
                :attr:`needs`.

        Returns:
            Scalars; those with "loss" in their name are minimised.
        """
        raise NotImplementedError(f'{type(self).__name__} has no forward(batch)')


class Regulariser(MethodPart, nn.Module):
    """A loss of the weights alone; built at every step after the first.

    The regulariser's parameters are saved and resumed with training, and are no part of the
    checkpoint of a step.
    """

    #: Config of an optimizer of the regulariser's parameters; by default the network's optimizer
    #: trains them.
    optimizer: Mapping[str, Any] | None = None

    def attach(self, network: nn.Module) -> None:
        """Inspect the segmentor, once it is built and before weights are loaded.

        Raises:
            InputError: The regulariser does not fit the network.
        """

    def forward(self, network: nn.Module) -> dict[str, Tensor]:
        """Return the losses at the network's present weights, and other scalars to log.

        Args:
            network: The segmentor.

        Returns:
            Scalars; those with "loss" in their name are minimised. Scalars with "apart_" in
            their name are minimised too, and have no gradient for the network.
        """
        raise NotImplementedError(f'{type(self).__name__} has no forward(network)')
