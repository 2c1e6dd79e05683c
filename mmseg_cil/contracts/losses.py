"""What is trained on: the contracts of losses, distillers and regularisers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from mmseg.utils import SampleList
from torch import Tensor, nn

from mmseg_cil.contracts.records import Batch, Needs, NetworkOutput
from mmseg_cil.utils.step_context import StepContext

if TYPE_CHECKING:
    # It is of the losses, which derive from these contracts.
    from mmseg_cil.losses.pixel_logits import PixelLogits


class IterationSeeded:
    """Something that draws random numbers which must be the same on all ranks."""

    def set_iteration_seed(self, seed: int) -> None:
        """Take the seed of the next iteration.

        Args:
            seed: Made of the run's seed, the step and the iteration, so a resumed run draws
                what the unbroken run would have drawn.
        """


class MethodPart(IterationSeeded):
    """A module of the network that knows the step; the base of losses and distillers.

    It is no ``nn.Module``, so that it can stand beside any class:
    ``class MyLoss(HeadLoss, nn.Module)``.
    """

    #: Type of a hook that the part does not work without; a walk without it is refused.
    needs_hook: ClassVar[str | None] = None
    #: Public names of a part that only look like names of the contract.
    own_names: ClassVar[Sequence[str]] = ()

    def set_step(self, step: StepContext) -> None:
        """Take the classes of the step, once, when the network is built.

        Args:
            step: Which outputs are old and new, and which old classes the labels hide.
        """


class HeadLoss(MethodPart):
    """A loss in ``loss_decode`` that knows the step; a mixin beside ``nn.Module``.

    It is called as MMSegmentation calls losses, ``loss(logits, labels, weight=...,
    ignore_index=...)``, and has a ``loss_name``.

    Attributes:
        knows_hidden_classes: Whether the label 0 is right for the loss where it stands for all old
            classes and none of them is a background. Walks with such labels refuse other losses.
    """

    knows_hidden_classes: bool = False

    def set_turns(self, turns: int) -> None:
        """Take the number of outputs that a class has in training.

        Args:
            turns: More than 1 with self-supervision, whose further outputs come after
                those of all classes.
        """

    def receive_teacher(self, teacher: NetworkOutput | None) -> None:
        """Take the last step's record of the batch, before the heads' losses are computed.

        Where a loss overrides this, the last step's checkpoint is loaded and run.

        Args:
            teacher: None after the batch. Never called at a step without a teacher.
        """

    def receive_samples(self, samples: SampleList) -> None:
        """Take the batch's samples, before the heads' losses are computed.

        Args:
            samples: With ``gt_sem_seg``, and in ``gt_edge_map`` the :class:`FurtherMap` of a
                method that has one.
        """

    def receive_hidden(self, hidden: Tensor | None) -> None:
        """Take what the label 0 of each image may stand for, before the losses.

        Args:
            hidden: ``(N, C)`` bool, class 0 among them; None where all images follow the
                step's rule (``step.num_hidden``), as they do without exemplars.
        """


class PixelLoss(HeadLoss):
    """A loss in ``loss_decode`` of the pixels that all losses of a head share."""

    def cuts(self) -> Sequence[int]:
        """Return the class indices at which groups begin or end whose log-sum-exps it reads.

        See :class:`~mmseg_cil.losses.pixel_logits.PixelLogits`.
        """
        return ()

    def of_pixels(self, pixels: PixelLogits) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            pixels: Logits, and labels in model ids.
        """
        raise NotImplementedError(f'{type(self).__name__} has no of_pixels(pixels)')


class ComparisonLoss(MethodPart):
    """A loss of a distiller, which compares two networks; a mixin beside ``nn.Module``.

    It has a ``loss_name``, under which it is logged.
    """

    def receive_classifier(self, rows: Tensor | None) -> None:
        """Take the rows of the student's classifier, before the loss is computed.

        Args:
            rows: ``(C, D)``, detached; None if nobody noted them.
        """


class Distiller(MethodPart, nn.Module):
    """Compares the student with teachers, batch by batch; built where there is a teacher."""

    #: What it reads of a batch; the instance may have another (set it in ``__init__``).
    needs: Needs = Needs(teacher=True)
    #: Config of an optimizer of its own parameters; by default the network's trains them.
    optimizer: Mapping[str, Any] | None = None

    def cuts(self) -> Sequence[int]:
        """Return the class indices at which groups begin or end whose log-sum-exps it reads.

        1 and the number of classes of each teacher are cuts anyway. See
        :class:`~mmseg_cil.losses.pixel_logits.PixelLogits`.
        """
        return ()

    def attach(self, network: nn.Module) -> None:
        """Look at the segmentor, once it is built.

        Raises:
            InputError: The distiller does not fit the network.
        """

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch by name, and other scalars to log.

        Args:
            batch: What the distiller :attr:`needs`, and the student.

        Returns:
            Scalars; those with "loss" in their name are minimised.
        """
        raise NotImplementedError(f'{type(self).__name__} has no forward(batch)')


class Regulariser(MethodPart, nn.Module):
    """A loss of the weights alone; built at every step after the first.

    Its parameters are saved and resumed with training, and are no part of the checkpoint
    that a step leaves behind.
    """

    #: Config of an optimizer of its own parameters; by default the network's trains them.
    optimizer: Mapping[str, Any] | None = None

    def attach(self, network: nn.Module) -> None:
        """Look at the segmentor, once it is built and before weights are loaded.

        Raises:
            InputError: The regulariser does not fit the network.
        """

    def forward(self, network: nn.Module) -> dict[str, Tensor]:
        """Return the losses at the network's present weights, and other scalars to log.

        Args:
            network: The segmentor.

        Returns:
            Scalars; those with "loss" in their name are minimised, and those with "apart_"
            in it too, which have no gradient for the network.
        """
        raise NotImplementedError(f'{type(self).__name__} has no forward(network)')
