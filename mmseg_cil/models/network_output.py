"""One record of a network's run, from which every distiller reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmseg_cil.errors import InputError


@dataclass(frozen=True)
class NetworkOutput:
    """What student and teacher hand to the distillers.

    Attributes:
        features: What the backbone (and neck) returns, shallow to deep, each
            ``(N, D_i, H_i, W_i)``.
        embedding: ``(N, D, h, w)``, the input of the classifier, before its
            dropout.
        logits: ``(N, C, h, w)``, the classifier's output, not upsampled. A
            student's were computed with dropout, where its head has any.
        align_corners: How the head upsamples its logits.
    """

    features: tuple[Tensor, ...]
    embedding: Tensor
    logits: Tensor
    align_corners: bool = False


class ClassifierTap:
    """What passed through the classifier of a head during one run."""

    def __init__(self) -> None:
        self.embedding: Tensor | None = None
        self.logits: Tensor | None = None

    def output(self, features: Tensor | Sequence[Tensor], align_corners: bool) -> NetworkOutput:
        """The record of the run.

        Args:
            features: What the backbone returned.
            align_corners: How the head upsamples its logits.

        Raises:
            InputError: Nothing passed through the classifier.
        """
        if self.embedding is None or self.logits is None:
            raise InputError('the head ran without its classifier conv_seg: it has another one, '
                             'and cannot be distilled')
        stages = (features, ) if isinstance(features, Tensor) else tuple(features)
        return NetworkOutput(stages, self.embedding, self.logits, align_corners)


@contextmanager
def tap_classifier(head: nn.Module) -> Iterator[ClassifierTap]:
    """Watches a head's ``dropout`` and ``conv_seg`` while it runs.

    Works with every MMSegmentation head that classifies with ``conv_seg``, in
    whichever way its ``loss`` and ``forward`` come there, and adds no second
    run. The input of the first of the two modules is the embedding.

    Args:
        head: With a convolution ``conv_seg`` and perhaps a ``dropout`` before it.

    Yields:
        The tap, filled by the time the head has run.
    """
    tap = ClassifierTap()

    def keep_embedding(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        tap.embedding = inputs[0]

    def keep_logits(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        tap.logits = output

    dropout = getattr(head, 'dropout', None)
    entry = dropout if isinstance(dropout, nn.Module) else head.conv_seg
    assert isinstance(entry, nn.Module) and isinstance(head.conv_seg, nn.Module)
    handles = [
        entry.register_forward_pre_hook(keep_embedding),
        head.conv_seg.register_forward_hook(keep_logits)
    ]
    try:
        yield tap
    finally:
        for handle in handles:
            handle.remove()


def run_network(network: nn.Module, inputs: Tensor) -> NetworkOutput:
    """One evaluation run of an MMSegmentation encoder-decoder, without gradients.

    Args:
        network: An ``EncoderDecoder``; it is not switched to evaluation mode here.
        inputs: ``(N, 3, H, W)``, normalised.
    """
    # no_grad rather than inference_mode: losses save the teacher's outputs for
    # the student's backward pass, which inference tensors refuse.
    with torch.no_grad():
        features = network.extract_feat(inputs)  # type: ignore[operator]
        with tap_classifier(network.decode_head) as tap:  # type: ignore[arg-type]
            network.decode_head.forward(features)  # type: ignore[union-attr]
    return tap.output(features, network.align_corners)  # type: ignore[arg-type]
