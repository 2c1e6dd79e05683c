"""The contracts: all that a method may hand over, and when it is called.

A method is a config (``method = dict(...)``) that names parts. Each part derives from one of
the classes below and overrides what it needs; everything else does nothing by default. A
public name that no contract knows, but that looks like one of its names (``set_steps``,
``reads_teachers``), is refused when the part is built
(:func:`~mmseg_cil.contracts.check.check_part`).

===================  ====================================================================
Key of the method    Contract
===================  ====================================================================
``loss_decode``      Any loss of MMSegmentation's form. One that wants to know the step
                     derives from :class:`HeadLoss`; one that shares the pixels of a
                     head with others is a :class:`PixelLoss`, most easily a
                     :class:`~mmseg_cil.losses.decode_loss.DecodeLoss`.
``distillers``       :class:`Distiller`, called with a :class:`Batch` of what it
                     :class:`Needs`. Its own loss, if it has one, derives from
                     :class:`ComparisonLoss`; for logits from
                     :class:`~mmseg_cil.losses.distillation_loss.DistillationLoss`.
``regularisers``     :class:`Regulariser`.
``self_supervision`` :class:`SelfSupervision`.
``network_change``   :class:`NetworkChange`.
``classifier_init``  :class:`ClassifierInit`.
``custom_hooks``     Any hook of MMEngine; one that keeps something of a finished step
                     derives from :class:`StepHook`.
``sub_steps``        :class:`~mmseg_cil.engine.sub_steps.SubStep`, which may hand a
                     :class:`Replay` or further teachers to its step.
===================  ====================================================================

All parts are built once a step, before any weights are read; ``attach`` and ``set_step``
come next, then the weights, then training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.utils import SampleList
from torch import Tensor, nn

from mmseg_cil.contracts.records import Batch, Needs, NetworkOutput
from mmseg_cil.utils.step_context import StepContext

if TYPE_CHECKING:
    # It is of the losses, which derive from these contracts.
    from mmseg_cil.losses.pixel_logits import PixelLogits

__all__ = [
    'Batch',
    'ClassifierInit',
    'ComparisonLoss',
    'Distiller',
    'HeadLoss',
    'IterationSeeded',
    'MethodPart',
    'Needs',
    'NetworkChange',
    'NetworkOutput',
    'PixelLoss',
    'Regulariser',
    'Replay',
    'SelfSupervision',
    'StepHook',
    'network_of',
]


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
    """

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


class SelfSupervision(nn.Module):
    """Changes the batches of training, and the classifiers' outputs there."""

    #: Outputs in training for each of the classes.
    turns: int = 1

    def attach(self, heads: Mapping[str, nn.Module]) -> None:
        """Add its outputs to the classifiers of the heads, once the segmentor is built.

        Args:
            heads: By name, each with a convolution ``conv_seg``.

        Raises:
            InputError: A head does not allow it.
        """

    def begin(self, heads: Mapping[str, nn.Module]) -> None:
        """Give its parameters their first values, once the heads have theirs."""

    def turn(self, inputs: Tensor, samples: SampleList) -> tuple[Tensor, SampleList]:
        """Return the batch that is trained on; until :meth:`end` its outputs are there.

        Args:
            inputs: ``(N, 3, H, W)``, normalised.
            samples: N, with ``gt_sem_seg``.
        """
        return inputs, samples

    def end(self) -> None:
        """Take its outputs back after the batch."""


class NetworkChange:
    """What a method changes in the network while a step trains; this one changes nothing.

    A step begins and ends with a plain MMSegmentation network; what is
    between is the method's affair. The segmentor calls, in this order,
    :meth:`install` when it is built, :meth:`plain_form` around whatever reads
    or initialises plain weights, :meth:`begin` after that, and :meth:`finish`
    when the step has been trained.
    """

    def install(self, model: nn.Module, learnt: bool) -> None:
        """Change the modules; weights come later.

        Args:
            model: The segmentor, in plain form.
            learnt: An earlier step has been trained.

        Raises:
            InputError: The network has no place for the change.
        """

    @contextmanager
    def plain_form(self, model: nn.Module) -> Iterator[None]:
        """Give the network its plain modules and names back for a while."""
        yield

    def begin(self, model: nn.Module, kept: Path | None) -> None:
        """Give the changed network its weights, from the plain ones that it has by now.

        Args:
            model: The segmentor, changed.
            kept: File of the last trained step with what :meth:`finish`
                returned, whether or not it exists. None at the first.

        Raises:
            InputError: The file cannot be read or is of another network.
        """

    def finish(self, model: nn.Module) -> dict[str, Tensor]:
        """Turn the network, in place, into a plain one of the same evaluation output.

        Returns:
            What the next step needs beyond the plain weights, on the CPU.
        """
        return {}


class Replay(IterationSeeded):
    """Appends images to the batches of training; used where there is a previous step.

    It is no ``nn.Module``: what draws the images is neither trained nor saved.
    """

    def load(self) -> None:
        """Read what the images are drawn from.

        Raises:
            InputError: The file is missing, damaged or of another kind.
        """

    def extend(self, inputs: Tensor, data_samples: SampleList) -> tuple[Tensor, SampleList, int]:
        """Append images to a batch.

        Args:
            inputs: ``(N, 3, H, W)``, normalised.
            data_samples: Of these images.

        Returns:
            Images ``(N + m, 3, H, W)``, their samples with 255 as every label, and m.
        """
        raise NotImplementedError(f'{type(self).__name__} has no extend(inputs, data_samples)')


class ClassifierInit:
    """Says how the classifier's rows of new classes begin."""

    #: It reads row 0 as the background's; a protocol without a background refuses it.
    needs_background: ClassVar[bool] = False
    #: Type of a hook that is added where a method begins so, such as one that replaces the rows.
    needs_hook: ClassVar[str | None] = None

    def __call__(
        self, weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the rows of all classes.

        Args:
            weight: ``(O, D, ...)`` rows of the old classes, background first.
            bias: ``(O,)``.
            fresh_weight: ``(K, D, ...)`` freshly initialised rows of the new classes.
            fresh_bias: ``(K,)``.

        Returns:
            Weight ``(O + K, D, ...)`` and bias ``(O + K,)``.
        """
        return torch.cat([weight, fresh_weight]), torch.cat([bias, fresh_bias])


def network_of(runner: Runner) -> nn.Module:
    """Return the segmentor of a Runner, out of its distributed wrapper."""
    model: nn.Module = runner.model
    return model.module if is_model_wrapper(model) else model  # type: ignore[return-value]


class StepHook(Hook):
    """A hook that keeps something of a finished step, or asks about a step beforehand.

    MMEngine's own moments (``before_train``, ``after_train_iter``, ...) are there too.
    """

    #: It takes part in the rehearsal before training.
    rehearsed: bool = False
    #: Public names of a hook that only look like names of the contract.
    own_names: ClassVar[Sequence[str]] = ()

    def check_network(self, network: nn.Module) -> None:
        """Look at a step's network before anything is trained.

        Raises:
            InputError: The hook does not fit it.
        """

    def check_state(self, runner: Runner) -> None:
        """Look at the training before its state is saved over a good state.

        Raises:
            InputError: The state must not be saved.
        """

    def after_step(self, runner: Runner) -> None:
        """Keep something of a step in ``runner.work_dir``; every process calls.

        The weights are final: ``after_train`` of all hooks is over, averaged weights are in
        place, the network is plain again, and it has not been exported yet.
        """

    def has_kept(self, folder: Path) -> bool:
        """Return whether a step's folder has what :meth:`after_step` would leave there.

        Where it has not, because another method trained the step, :meth:`after_step` is
        called for it now.
        """
        return True

    def stand_in(self, model: nn.Module, batches: Iterable[Any], folder: Path) -> None:
        """Write, for the rehearsal, files of the kind that :meth:`after_step` leaves.

        Args:
            model: The segmentor at a step.
            batches: Collated samples.
            folder: Of the step.
        """
