"""What a method does to the network, its inputs and its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmseg.utils import SampleList
from torch import Tensor, nn

from mmseg_cil.contracts.losses import IterationSeeded


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
    when the step has been trained. Parts that it freezes (``requires_grad_(False)`` at
    :meth:`install`) are frozen for the step.
    """

    #: Outputs that the classifier of the decode head has after those of the classes, and that
    #: are no classes: the heads' losses see them, distillers and teachers do not.
    extra_outputs: int = 0

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

        Extra outputs that a :class:`PredictionRule` reads may stay where they are no module
        of the network (a forward hook of ``conv_seg``, say).

        Returns:
            What the next step needs beyond the plain weights, on the CPU.
        """
        return {}

    def in_finished_form(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return plain weights that compute the same, in the form that :meth:`finish` leaves.

        It is for what mixes the weights of a step's beginning and end: where ``finish`` folds one
        layer into another, those of the beginning must be folded alike.

        Args:
            state: Weights of the network in plain form, by name; not changed.
        """
        return dict(state)

    def restore(self, model: nn.Module, kept: Path) -> None:
        """Give a plain network, loaded from a step's checkpoint, its extra outputs back.

        Args:
            model: The segmentor with the weights of a finished step.
            kept: File with what :meth:`finish` returned for it, whether or not it exists.
        """


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
            data_samples: Data samples of these images.

        Returns:
            Images ``(N + m, 3, H, W)``, their samples with 255 as every label, and m.
        """
        raise NotImplementedError(f'{type(self).__name__} has no extend(inputs, data_samples)')


class ClassifierInit:
    """Says how the classifier's rows of new classes begin."""

    #: It reads row 0 as the background's; a protocol without a background refuses it.
    needs_background: ClassVar[bool] = False
    #: It says what it has to say by biases; a classifier without them is refused.
    needs_bias: ClassVar[bool] = False
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


class PredictionRule:
    """Says how the outputs of the decode head become scores of the classes in a test.

    The checkpoint that a step leaves is a plain one all the same; its config says that
    MMSegmentation alone predicts without the rule.
    """

    def __call__(self, logits: Tensor, num_classes: int) -> Tensor:
        """Return the scores ``(N, C, H, W)``, of which the greatest is predicted.

        Args:
            logits: ``(N, C + k, H, W)``, the classes first. There are no extra outputs (k = 0)
                where the network never had any, as at a step that did not train.
            num_classes: C.
        """
        return logits[:, :num_classes]


class FurtherMap(BaseTransform):
    """Reads a second map of a training image, which follows its resizing, crops and flips.

    It stands right after ``LoadAnnotations``. The map travels as ``gt_edge_map``, the place
    that MMSegmentation's packer, preprocessor and padding (with 255) have for a second map.
    A walk whose network (PIDNet's head) or pipeline (``GenerateEdge``) needs that place for
    edges between classes is refused.
    """

    #: It is built with a further argument ``step_folder``: where a hook of the same method
    #: writes, before the training of a step, what it reads.
    needs_step_folder: ClassVar[bool] = False

    def read(self, results: Mapping[str, Any]) -> np.ndarray:
        """Return the map, integers ``(H, W)`` of the image's size.

        Args:
            results: With ``img``, ``img_path``, ``gt_seg_map`` and what else the data set gives.
        """
        raise NotImplementedError(f'{type(self).__name__} has no read(results)')

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Put the map beside the labels."""
        results['gt_edge_map'] = self.read(results)
        results.setdefault('seg_fields', []).append('gt_edge_map')
        return results
