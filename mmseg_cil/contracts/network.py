"""The contracts of parts that change the network, its inputs or its outputs."""

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
    """A part that changes the training batches and the classifiers' outputs for them."""

    #: Number of outputs of each class in training.
    turns: int = 1

    def attach(self, heads: Mapping[str, nn.Module]) -> None:
        """Add the part's outputs to the classifiers of the heads, once the segmentor is built.

        Args:
            heads: Heads by name, each with a convolution ``conv_seg``.

        Raises:
            InputError: A head does not allow further outputs.
        """

    def begin(self, heads: Mapping[str, nn.Module]) -> None:
        """Initialise the part's parameters, once the heads are initialised."""

    def turn(self, inputs: Tensor, samples: SampleList) -> tuple[Tensor, SampleList]:
        """Return the batch that is trained on, and use the further outputs until :meth:`end`.

        Args:
            inputs: ``(N, 3, H, W)``, normalised.
            samples: N samples with ``gt_sem_seg``.
        """
        return inputs, samples

    def end(self) -> None:
        """Remove the further outputs after the batch."""


class NetworkChange:
    """A change of the network while a step trains; this base class changes nothing.

    A step begins and ends with a plain MMSegmentation network; in between the method
    may change it. The segmentor calls, in this order, :meth:`install` when it is
    built, :meth:`plain_form` around all code that reads or initialises plain weights,
    :meth:`begin` after that, and :meth:`finish` when the step has been trained.
    Parameters that :meth:`install` freezes (``requires_grad_(False)``) are frozen for
    the step.
    """

    #: Number of outputs of a classifier that come after the classes' outputs and are no classes of
    #: the step. The heads' losses see these outputs, distillers and teachers do not.
    extra_outputs: int = 0

    def install(self, model: nn.Module, learnt: bool) -> None:
        """Change the modules, before any weights are read.

        Args:
            model: The segmentor, in plain form.
            learnt: Whether an earlier step has been trained.

        Raises:
            InputError: The network has no place for the change.
        """

    @contextmanager
    def plain_form(self, model: nn.Module) -> Iterator[None]:
        """Give the network its plain modules and names within the block."""
        yield

    def begin(self, model: nn.Module, kept: Path | None) -> None:
        """Set the weights of the changed modules from the plain weights in the network.

        Args:
            model: The segmentor, changed.
            kept: File of the last trained step with the result of :meth:`finish`,
                whether or not it exists. None at the first trained step.

        Raises:
            InputError: The file cannot be read or is of another network.
        """

    def finish(self, model: nn.Module) -> dict[str, Tensor]:
        """Turn the network, in place, into a plain network with the same output in evaluation.

        Extra outputs that a :class:`PredictionRule` reads may stay if they are no module of
        the network (but a forward hook of ``conv_seg``, say).

        Returns:
            The tensors that the next step needs beyond the plain weights, on the CPU.
        """
        return {}

    def in_finished_form(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return plain weights with the same outputs, in the form that :meth:`finish` leaves.

        Parts that mix the weights of a step's beginning and end need this form: where ``finish``
        folds one layer into another, the weights of the beginning must be folded in the same way.

        Args:
            state: Weights of the network in plain form, by name; not changed.
        """
        return dict(state)

    def restore(self, model: nn.Module, kept: Path) -> None:
        """Restore the extra outputs of a plain network that was loaded from a checkpoint.

        Args:
            model: The segmentor with the weights of a finished step.
            kept: File with the result of :meth:`finish` for that step, whether or not it exists.
        """


class Replay(IterationSeeded):
    """A generator that appends images to the training batches; used where there is a previous step.

    The class is no ``nn.Module``: a generator of images is neither trained nor saved.
    """

    def load(self) -> None:
        """Read the file from which the images are drawn.

        Raises:
            InputError: The file is missing, damaged or of another kind.
        """

    def extend(self, inputs: Tensor, data_samples: SampleList) -> tuple[Tensor, SampleList, int]:
        """Append images to a batch.

        Args:
            inputs: ``(N, 3, H, W)``, normalised.
            data_samples: Data samples of these images.

        Returns:
            Images ``(N + m, 3, H, W)``, their samples (the m further ones with 255 as every
            label), and m.
        """
        raise NotImplementedError(f'{type(self).__name__} has no extend(inputs, data_samples)')


class ClassifierInit:
    """The initialisation of the classifier's rows of new classes."""

    #: Whether row 0 is read as the background's row; a protocol without a background is refused.
    needs_background: ClassVar[bool] = False
    #: Whether the initialisation needs biases; a classifier without biases is refused.
    needs_bias: ClassVar[bool] = False
    #: Type of a hook that is added with this initialisation, such as one that replaces the rows.
    needs_hook: ClassVar[str | None] = None

    def of_layer(self, name: str) -> ClassifierInit:
        """Return the initialisation of one layer; by default the same for all layers.

        The method is called once for each layer with a row a class, before the rows are asked
        for. ``needs_bias`` of what it returns counts.

        Args:
            name: Name of the layer in the network, such as ``'decode_head.conv_seg'``.
        """
        return self

    def __call__(
        self, weight: Tensor, bias: Tensor, fresh_weight: Tensor, fresh_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the rows of all classes.

        Args:
            weight: ``(O, D, ...)`` rows of the old classes, background first.
            bias: ``(O,)`` biases of the old classes.
            fresh_weight: ``(K, D, ...)`` freshly initialised rows of the new classes.
            fresh_bias: ``(K,)`` freshly initialised biases of the new classes.

        Returns:
            Weight ``(O + K, D, ...)`` and bias ``(O + K,)``.
        """
        return torch.cat([weight, fresh_weight]), torch.cat([bias, fresh_bias])


class PredictionRule:
    """The rule that turns the outputs of the decode head into scores of the classes at test.

    The checkpoint of a step is plain also with such a rule; the config of the step says that
    MMSegmentation alone predicts without the rule.
    """

    def __call__(self, logits: Tensor, num_classes: int) -> Tensor:
        """Return the scores ``(N, C, H, W)``; the class of the greatest score is predicted.

        Args:
            logits: ``(N, C + k, H, W)``, the classes first. There are no extra outputs (k = 0)
                where the network never had any, as at a step that did not train.
            num_classes: C, the number of classes.
        """
        return logits[:, :num_classes]


class FurtherMap(BaseTransform):
    """The reader of a second map of a training image, which is resized, cropped and flipped alike.

    The transform stands right after ``LoadAnnotations``. The map has the key ``gt_edge_map``,
    which MMSegmentation's packer, preprocessor and padding (with 255) provide for a second map.
    A walk whose network (PIDNet's head) or pipeline (``GenerateEdge``) needs that key for
    edges between classes is refused.
    """

    #: Whether the transform is built with a further argument ``step_folder``, the folder into
    #: which a hook of the same method writes, before the training of a step, the data for it.
    needs_step_folder: ClassVar[bool] = False

    def read(self, results: Mapping[str, Any]) -> np.ndarray:
        """Return the map, integers ``(H, W)`` of the image's size.

        Args:
            results: The sample with ``img``, ``img_path``, ``gt_seg_map`` and the further keys of
                the data set.
        """
        raise NotImplementedError(f'{type(self).__name__} has no read(results)')

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the map to the sample, beside the labels."""
        results['gt_edge_map'] = self.read(results)
        results.setdefault('seg_fields', []).append('gt_edge_map')
        return results
