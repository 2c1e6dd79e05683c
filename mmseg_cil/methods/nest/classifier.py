"""The classifier during NeST's pre-tuning: its new rows are made of old rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmseg.models.decode_heads import PointHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn
from torch.nn import functional

from mmseg_cil.contracts import NetworkChange
from mmseg_cil.errors import InputError
from mmseg_cil.methods.nest.transfer import BIAS_SCALES, finished_rows, mixing_of, new_rows
from mmseg_cil.models.heads import auxiliary_heads, classifier_holder, decode_heads
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.values import check_choice

#: The biases that new classes begin the pre-tuning with.
BIASES = ('background', 'drawn')


class PreTunedClassifier(nn.Module):
    """A 1x1 classifier that learns a transfer of its old rows instead of its rows.

    New rows are :func:`~mmseg_cil.methods.nest.transfer.new_rows` of the old rows. The background's
    row is its old one times a vector and a number. All other rows stay. Rows are computed in
    float32 or better, also under autocast.

    Source: Xie et al., ECCV 2024; zhengyuan-xie/ECCV24_NeST ``segmentation_module.py``,
    ``avg_weight_output``.

    Args:
        conv: The plain classifier, of O + K rows. It is frozen; only its old rows are read.
        num_old: O, background included.
    """

    def __init__(self, conv: nn.Conv2d, num_old: int) -> None:
        super().__init__()
        self.conv = conv
        conv.requires_grad_(False)
        self.num_old = num_old
        num_new, channels = conv.out_channels - num_old, conv.in_channels
        self.importance = nn.Parameter(torch.ones(num_new, num_old, channels))
        self.mixing = nn.Parameter(mixing_of(self.importance.detach()))
        self.background_scale = nn.Parameter(torch.ones(channels))
        self.background_mixing = nn.Parameter(torch.ones(1))
        self.new_bias = nn.Parameter(torch.zeros(num_new)) if conv.bias is not None else None

    @property
    def old_rows(self) -> Tensor:
        """Return the rows of the old classes, ``(O, D)``."""
        return self.conv.weight[: self.num_old].flatten(1)

    @property
    def weight(self) -> Tensor:
        """Return the rows of all classes, ``(O + K, D, 1, 1)``."""
        old = self.old_rows
        with torch.autocast(old.device.type, enabled=False):
            rows = [self.background_row()[None], old[1:], self.new_rows()]
            return torch.cat(rows)[:, :, None, None]

    @property
    def bias(self) -> Tensor | None:
        """Return the biases of all classes, ``(O + K,)``; None without biases."""
        if self.conv.bias is None or self.new_bias is None:
            return None
        return torch.cat([self.conv.bias[: self.num_old], self.new_bias])

    def background_row(self) -> Tensor:
        """Return the background's row, ``(D,)``."""
        return self.background_mixing * self.background_scale * self.old_rows[0]

    def new_rows(self) -> Tensor:
        """Return the rows of new classes, ``(K, D)``."""
        return new_rows(self.mixing, self.importance, self.old_rows)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits ``(N, O + K, h, w)`` of an embedding ``(N, D, h, w)``."""
        return functional.conv2d(inputs, self.weight, self.bias)

    @torch.no_grad()
    def begin(self, bias: str) -> None:
        """Set the biases of new classes; they are all alike.

        Args:
            bias: 'background' for the background's bias, or 'drawn' for a bias as that of a new
                convolution.
        """
        if self.new_bias is None or self.conv.bias is None:
            return
        first = self.conv.bias[0]
        if bias == 'drawn':
            bound = self.conv.in_channels**-0.5
            first = torch.empty(1).uniform_(-bound, bound).to(first)
        self.new_bias.copy_(first.expand_as(self.new_bias))

    @torch.no_grad()
    def finish(self, bias_scale: str) -> nn.Conv2d:
        """Return the plain classifier with the rows that the step begins with.

        Args:
            bias_scale: See :func:`~mmseg_cil.methods.nest.transfer.finished_rows`.
        """
        bias = None if self.conv.bias is None else self.conv.bias[: self.num_old]
        weight, biases = finished_rows(
            self.old_rows, bias, self.background_row(), self.new_rows(), self.new_bias, bias_scale
        )
        self.conv.weight.copy_(weight[:, :, None, None])
        if self.conv.bias is not None and biases is not None:
            self.conv.bias.copy_(biases)
        return self.conv


@MODELS.register_module()
class ClassifierPreTuning(NetworkChange):
    """A :class:`PreTunedClassifier` in each head, and everything else frozen.

    Args:
        bias: Biases that new classes begin with: 'background' (default), the background's of the
            last step; or 'drawn', a bias as that of a new convolution, as in the official code,
            which takes the background's bias before the last step's weights are read.
        bias_scale: See :func:`~mmseg_cil.methods.nest.transfer.finished_rows`.

    Raises:
        InputError: An option is unknown.
    """

    def __init__(self, bias: str = 'background', bias_scale: str = 'each') -> None:
        check_choice(self, 'bias', bias, BIASES)
        check_choice(self, 'bias_scale', bias_scale, BIAS_SCALES)
        self.bias, self.bias_scale = bias, bias_scale
        self._installed: dict[str, PreTunedClassifier] = {}

    def install(self, model: nn.Module, learnt: bool) -> None:
        """Freeze the network, and put the classifiers in place.

        Raises:
            InputError: A classifier's kernel is not 1x1.
        """
        model.requires_grad_(False)
        num_old: int = model.step.num_old  # type: ignore[assignment,union-attr]
        for name, head in classifying_heads(model).items():
            conv = classifier_holder(head).conv_seg
            if tuple(conv.kernel_size) != (1, 1):
                raise InputError(
                    f'PreTuneClassifier: {name}.conv_seg has a kernel of {tuple(conv.kernel_size)},'
                    ' and rows are made of old rows for 1x1 alone: use a head whose classifier is '
                    '1x1, or leave the sub-step out and take another classifier_init, such as '
                    "'balanced'"
                )
            self._installed[name] = PreTunedClassifier(conv, num_old)
            classifier_holder(head).conv_seg = self._installed[name]

    @contextmanager
    def plain_form(self, model: nn.Module) -> Iterator[None]:
        """Put the plain classifiers back for a while."""
        heads = classifying_heads(model)
        for name, classifier in self._installed.items():
            classifier_holder(heads[name]).conv_seg = classifier.conv
        try:
            yield
        finally:
            for name, classifier in self._installed.items():
                classifier_holder(heads[name]).conv_seg = classifier

    def begin(self, model: nn.Module, kept: Path | None) -> None:
        """Set the biases of new classes; the rows wait for the pass over the images."""
        for classifier in self._installed.values():
            classifier.begin(self.bias)

    def finish(self, model: nn.Module) -> dict[str, Tensor]:
        """Write the scaled rows into the plain classifiers, which take their places again."""
        heads = classifying_heads(model)
        for name, classifier in self._installed.items():
            classifier_holder(heads[name]).conv_seg = classifier.finish(self.bias_scale)
        self._installed = {}
        return {}


def classifying_heads(model: nn.Module) -> dict[str, BaseDecodeHead]:
    """Return the heads with a classifier of maps, by their names in the network.

    ``PointHead``, which refines points by convolutions of its own, is not among them.
    """
    heads = {**decode_heads(model), **auxiliary_heads(model)}
    return {name: head for name, head in heads.items() if not isinstance(head, PointHead)}


def layer_name(name: str, head: BaseDecodeHead) -> str:
    """Return the name of a head's classifier in the network, such as 'decode_head.conv_seg'."""
    inner = 'kernel_generate_head.' if classifier_holder(head) is not head else ''
    return f'{name}.{inner}conv_seg'
