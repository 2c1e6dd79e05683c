"""Runs of a network that keep its :class:`NetworkOutput`, which distillers read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmseg.models.decode_heads import IterativeDecodeHead, PointHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmseg_cil.contracts import Features, NetworkOutput
from mmseg_cil.contracts.records import NotComputed
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
    """Input, output and rows of the classifier of a head during one run."""

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
        """Return the record of the run.

        Args:
            features: Output of the backbone.
            align_corners: How the head upsamples its logits.
            pre_activations: Maps that :func:`tap_stages` kept.
            auxiliary: Logits of the auxiliary heads.

        Raises:
            InputError: Nothing passed through the classifier.
        """
        if self.embedding is None or self.logits is None:
            raise InputError(
                'the head ran without its classifier conv_seg: it has another one, '
                'and cannot be distilled: use a head that classifies with conv_seg, or a method '
                'without a teacher (finetune, vdfd)'
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
    """Return the feature maps of a backbone's output, without class tokens."""
    if isinstance(features, Tensor):
        return (features,)
    return tuple(feature if isinstance(feature, Tensor) else feature[0] for feature in features)


@contextmanager
def tap_classifier(head: BaseDecodeHead) -> Iterator[ClassifierTap]:
    """Watch a head's ``dropout`` and ``conv_seg`` while the head runs.

    The tap works with every MMSegmentation head that classifies with ``conv_seg``,
    however its ``loss`` and ``forward`` call it, and adds no second
    run. The input of the first of the two modules is the embedding. K-Net makes
    kernels of the rows and applies these kernels to the embedding; K-Net's logits are
    those of its last stage.

    Args:
        head: Head with a convolution ``conv_seg`` and perhaps a ``dropout`` before it.

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
    """Return the activations after the last residual sum of each stage of a ResNet-like backbone.

    ResNet-like backbones, such as MMSegmentation's ``ResNet`` and its subclasses, name
    their stages in ``res_layers``, and their blocks end with ``relu``. For any
    other backbone the list is empty.
    """
    stages = [getattr(backbone, name) for name in getattr(backbone, 'res_layers', ())]
    found = [getattr(list(stage.children())[-1], 'relu', None) for stage in stages]
    activations = [relu for relu in found if isinstance(relu, nn.Module)]
    return activations if len(activations) == len(stages) else []


@contextmanager
def tap_stages(backbone: nn.Module, watch: bool = True) -> Iterator[list[Tensor]]:
    """Watch a backbone and keep the map of each stage before its last activation.

    In the block these activations do not work in place, because they would overwrite
    the kept maps. A block of a stage uses one ``relu`` several times; the last input of
    this ``relu`` counts.

    Args:
        backbone: Any backbone; see :func:`last_activations`.
        watch: If False, nothing is kept.

    Yields:
        A list that holds the maps, shallow to deep, by the time the backbone
        has run; empty for a backbone without such activations.
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
    network: nn.Module,
    inputs: Tensor,
    pre_activations: bool = False,
    auxiliary: bool = False,
    outputs: bool = True,
) -> NetworkOutput:
    """Run an MMSegmentation encoder-decoder once for evaluation, without gradients.

    Args:
        network: An ``EncoderDecoder`` or a ``CascadeEncoderDecoder``; this function does not
            switch it to evaluation mode.
        inputs: ``(N, 3, H, W)``, normalised.
        pre_activations: Keep the pre-activations of the backbone's stages too.
        auxiliary: Run the auxiliary heads too.
        outputs: Run the decode heads. Otherwise the record has features alone.
    """
    # no_grad rather than inference_mode: losses save the teacher's outputs for
    # the student's backward pass, which inference tensors refuse.
    with torch.no_grad():
        _, head = main_head(network)
        with returns_as_in_training(network):
            with tap_stages(network.backbone, pre_activations) as stages:  # type: ignore[arg-type]
                features = network.extract_feat(inputs)  # type: ignore[operator]
            if not outputs:
                return _features_alone(features, head.align_corners, stages)
            with tap_classifier(head) as tap:
                run_decode_heads(network, features)
        others = auxiliary_heads(network).values() if auxiliary else ()
        logits = [_tapped(other, features).logits for other in others]
    return tap.output(features, head.align_corners, stages, logits)  # type: ignore[arg-type]


def _features_alone(
    features: Features, align_corners: bool, stages: Sequence[Tensor]
) -> NetworkOutput:
    """Return the record of a run without heads."""
    missing: Any = NotComputed()
    return NetworkOutput(maps_of(features), missing, missing, align_corners, tuple(stages))


def run_heads(network: nn.Module, features: Features) -> dict[str, ClassifierTap]:
    """Run the heads that classify maps, in their order, and watch their classifiers.

    Args:
        network: A segmentor.
        features: Features of the segmentor's backbone and neck.

    Returns:
        The tap of the classifier of each head, by the head's name.
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
    """Return the maps of logits ``(N, C, h, w)`` of a segmentor for features, not upsampled."""
    with tap_classifier(main_head(network)[1]) as tap:
        run_decode_heads(network, features)
    assert tap.logits is not None
    return tap.logits


def _tapped(head: BaseDecodeHead, *inputs: Features) -> ClassifierTap:
    with tap_classifier(head) as tap:
        head.forward(*inputs)
    return tap
