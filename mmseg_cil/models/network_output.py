"""Running a network and keeping what distillers read: its :class:`NetworkOutput`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from mmseg.models.decode_heads import IterativeDecodeHead, PointHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmseg_cil.contracts import Features, NetworkOutput
from mmseg_cil.errors import InputError
from mmseg_cil.models.heads import (
    auxiliary_heads,
    classifier_holder,
    classifier_of,
    decode_heads,
    main_head,
    returns_as_in_training,
    run_decode_heads,
)


class ClassifierTap:
    """What passed through the classifier of a head during one run."""

    def __init__(self) -> None:
        self.embedding: Tensor | None = None
        self.logits: Tensor | None = None
        self.classifier: Tensor | None = None

    def output(
        self,
        features: Features,
        align_corners: bool,
        pre_activations: Sequence[Tensor] = (),
        auxiliary: Sequence[Tensor] = (),
    ) -> NetworkOutput:
        """The record of the run.

        Args:
            features: What the backbone returned.
            align_corners: How the head upsamples its logits.
            pre_activations: What :func:`tap_stages` kept.
            auxiliary: Logits of the auxiliary heads.

        Raises:
            InputError: Nothing passed through the classifier.
        """
        if self.embedding is None or self.logits is None:
            raise InputError(
                'the head ran without its classifier conv_seg: it has another one, '
                'and cannot be distilled'
            )
        return NetworkOutput(
            maps_of(features),
            self.embedding,
            self.logits,
            align_corners,
            tuple(pre_activations),
            tuple(auxiliary),
            self.classifier,
        )


def maps_of(features: Features) -> tuple[Tensor, ...]:
    """The feature maps among what a backbone returns: without class tokens beside them."""
    if isinstance(features, Tensor):
        return (features,)
    return tuple(feature if isinstance(feature, Tensor) else feature[0] for feature in features)


@contextmanager
def tap_classifier(head: BaseDecodeHead) -> Iterator[ClassifierTap]:
    """Watches a head's ``dropout`` and ``conv_seg`` while it runs.

    Works with every MMSegmentation head that classifies with ``conv_seg``, in
    whichever way its ``loss`` and ``forward`` come there, and adds no second
    run. The input of the first of the two modules is the embedding. K-Net makes
    kernels of the rows and applies them to the embedding; its logits are those of
    its last stage.

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
        tap.classifier = module.weight.detach().flatten(1)  # type: ignore[operator]

    def keep_last_stage(
        module: nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]
    ) -> None:
        tap.logits = output[0]

    classifier, dropout = classifier_of(head), getattr(classifier_holder(head), 'dropout', None)
    entry = dropout if isinstance(dropout, nn.Module) else classifier
    handles = [
        entry.register_forward_pre_hook(keep_embedding),
        classifier.register_forward_hook(keep_logits),
    ]
    if isinstance(head, IterativeDecodeHead):
        handles.append(head.kernel_update_head[-1].register_forward_hook(keep_last_stage))
    try:
        yield tap
    finally:
        for handle in handles:
            handle.remove()


def last_activations(backbone: nn.Module) -> list[nn.Module]:
    """The activation after the last residual sum of every stage of a ResNet-like backbone.

    Those are backbones that, as MMSegmentation's ``ResNet`` and its kin, name
    their stages in ``res_layers``, and whose blocks end with ``relu``. Of any
    other backbone the list is empty.
    """
    stages = [getattr(backbone, name) for name in getattr(backbone, 'res_layers', ())]
    found = [getattr(list(stage.children())[-1], 'relu', None) for stage in stages]
    activations = [relu for relu in found if isinstance(relu, nn.Module)]
    return activations if len(activations) == len(stages) else []


@contextmanager
def tap_stages(backbone: nn.Module, watch: bool = True) -> Iterator[list[Tensor]]:
    """Watches a backbone and keeps each stage before its last activation.

    Meanwhile these activations do not work in place, for they would overwrite
    what is kept. A block uses one ``relu`` several times; its last input counts.

    Args:
        backbone: Any; see :func:`last_activations`.
        watch: If False, nothing is kept.

    Yields:
        A list that holds the maps, shallow to deep, by the time the backbone
        has run; none for a backbone without such activations.
    """
    activations = last_activations(backbone) if watch else []
    maps: list[Tensor] = []

    def keep_at(place: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:

        def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # Stages run in order; a later input of the same activation replaces the earlier.
            maps[place:] = [inputs[0]]

        return keep

    in_place = [getattr(activation, 'inplace', False) for activation in activations]
    handles = []
    try:
        for place, activation in enumerate(activations):
            handles.append(activation.register_forward_pre_hook(keep_at(place)))
            activation.inplace = False  # type: ignore[assignment]
        yield maps
    finally:
        for handle in handles:
            handle.remove()
        for activation, former in zip(activations, in_place, strict=True):
            activation.inplace = former  # type: ignore[assignment]


def run_network(
    network: nn.Module, inputs: Tensor, pre_activations: bool = False, auxiliary: bool = False
) -> NetworkOutput:
    """One evaluation run of an MMSegmentation encoder-decoder, without gradients.

    Args:
        network: An ``EncoderDecoder`` or a ``CascadeEncoderDecoder``; it is not switched
            to evaluation mode here.
        inputs: ``(N, 3, H, W)``, normalised.
        pre_activations: Keep those of the backbone's stages too.
        auxiliary: Run the auxiliary heads too.
    """
    # no_grad rather than inference_mode: losses save the teacher's outputs for
    # the student's backward pass, which inference tensors refuse.
    with torch.no_grad():
        _, head = main_head(network)
        with returns_as_in_training(network):
            with tap_stages(network.backbone, pre_activations) as stages:  # type: ignore[arg-type]
                features = network.extract_feat(inputs)  # type: ignore[operator]
            with tap_classifier(head) as tap:
                run_decode_heads(network, features)
        others = auxiliary_heads(network).values() if auxiliary else ()
        logits = [_tapped(other, features).logits for other in others]
    return tap.output(features, head.align_corners, stages, logits)  # type: ignore[arg-type]


def run_heads(network: nn.Module, features: Features) -> dict[str, ClassifierTap]:
    """Runs the heads that classify maps, in their order, and watches their classifiers.

    Args:
        network: A segmentor.
        features: Features of its backbone and neck.

    Returns:
        What passed through the classifier of each head, by the head's name.
    """
    taps: dict[str, ClassifierTap] = {}
    before: tuple[Tensor, ...] = ()
    for name, head in decode_heads(network).items():
        if not isinstance(head, PointHead):
            taps[name] = _tapped(head, features, *before)
            logits = taps[name].logits
            before = () if logits is None else (logits,)
    for name, head in auxiliary_heads(network).items():
        taps[name] = _tapped(head, features)
    return taps


def main_logits(network: nn.Module, features: Features) -> Tensor:
    """The maps of logits ``(N, C, h, w)`` that a segmentor makes of features, not upsampled."""
    with tap_classifier(main_head(network)[1]) as tap:
        run_decode_heads(network, features)
    assert tap.logits is not None
    return tap.logits


def _tapped(head: BaseDecodeHead, *inputs: Features) -> ClassifierTap:
    with tap_classifier(head) as tap:
        head.forward(*inputs)
    return tap
