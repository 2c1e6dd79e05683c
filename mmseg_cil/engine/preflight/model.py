"""Checks that the classes of a network can grow, and notes on what becomes of its losses."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from inspect import Parameter, signature
from typing import Any

from mmengine.logging import print_log

from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.engine.config.model_losses import (
    StepClasses,
    for_step,
    is_replaced,
    losses_of,
    named_heads,
)
from mmseg_cil.engine.preflight.building import require_type
from mmseg_cil.errors import InputError
from mmseg_cil.models.growth import what_cannot_grow
from mmseg_cil.models.head_losses import GROWING
from mmseg_cil.models.heads import head_class
from mmseg_cil.models.plain import SEGMENTORS, type_name
from mmseg_cil.registry import MODELS

#: Heads of MMSegmentation that cannot grow by the classes of a step, and why.
_UNFIT_HEADS = {
    'SegmenterMaskTransformerHead': 'one norm spans the scores of all its classes (take '
    "Segmenter's linear decoder, an FCNHead)",
    'MaskFormerHead': 'its queries propose masks, which are matched to classes anew in each image',
    'Mask2FormerHead': 'its queries propose masks, which are matched to classes anew in each image',
    'SideAdapterCLIPHead': 'it compares masks with the names of classes by a frozen CLIP',
    'VPDDepthHead': 'it estimates depths, not classes',
}
#: Segmentors of MMSegmentation that a walk does not grow, and why.
_UNFIT_SEGMENTORS = {
    'MultimodalEncoderDecoder': 'its classes are names that a frozen text encoder reads',
    'DepthEstimator': 'it estimates depths, not classes',
    'SegTTAModel': 'it only averages predictions: put it under tta_model, and the network that '
    'it is of under model',
}
#: Settings under which MMSegmentation's networks name a kind of layer.
_LAYERS = ('norm_cfg', 'act_cfg', 'conv_cfg', 'upsample_cfg')
_USUAL_SETTINGS = ('type', 'loss_weight', 'loss_name')


def check_model(model: Mapping[str, Any]) -> None:
    """Refuse a network whose classes cannot grow, or whose losses mean other labels.

    Args:
        model: ``model`` of the user's config, or the form it has at a step.

    Raises:
        InputError: The segmentor or a head cannot grow, a loss is no config of a loss, or
            a head or loss ignores a label other than 255.
    """
    kind = type_name(model.get('type'))
    if kind not in (*SEGMENTORS, *SEGMENTORS.values()):
        reason = _UNFIT_SEGMENTORS.get(kind)
        raise InputError(
            f'model.type is {model.get("type")!r}; a walk grows the plain EncoderDecoder, or '
            f'CascadeEncoderDecoder{f", and {reason}" if reason else ""}: use '
            "model=dict(type='EncoderDecoder', backbone=..., decode_head=...)"
        )
    for where, head in named_heads(model):
        name = type_name(head.get('type'))
        if name in _UNFIT_HEADS:
            raise InputError(
                f'{where}: {name} cannot grow by the classes of a step, for {_UNFIT_HEADS[name]}: '
                f'use a head that classifies every pixel by a convolution {GROWING} on the same '
                'backbone'
            )
        _check_losses(f'{where}.loss_decode', head.get('loss_decode'))
        _check_ignored(where, head)
    _check_boundary_heads(model)
    _check_layers('model', model)


def _check_layers(where: str, node: Any) -> None:
    """Refuse unknown types of layers, which MMCV would report without their names."""
    if isinstance(node, (list, tuple)):
        for place, item in enumerate(node):
            _check_layers(f'{where}.{place}', item)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            if key in _LAYERS and isinstance(value, Mapping) and 'type' in value:
                require_type(MODELS, value['type'], f'{where}.{key}.type')
            _check_layers(f'{where}.{key}', value)


def _check_boundary_heads(model: Mapping[str, Any]) -> None:
    """Refuse a boundary head of one output whose losses teach it opposite things.

    MMSegmentation's sigmoid cross-entropy wants the only output to be high at boundaries; its
    DiceLoss takes this output for that of the label 0, no boundary, and wants it to be low there.
    """
    for where, head in named_heads(model, own_target=True):
        kinds = {type_name(loss.get('type')) for loss in losses_of(head)}
        outputs = head.get('out_channels') or head.get('num_classes')
        if outputs == 1 and {'CrossEntropyLoss', 'DiceLoss'} <= kinds:
            raise InputError(
                f'{where}: a {type_name(head.get("type"))} of one output is taught opposite things '
                'by CrossEntropyLoss (high at boundaries) and DiceLoss (which counts the label 0, '
                "low at boundaries): set num_classes=2, as MMSegmentation's configs of STDC do, "
                'or leave DiceLoss out'
            )


def _check_losses(where: str, losses: Any) -> None:
    listed = isinstance(losses, (list, tuple))
    for i, loss in enumerate(losses if listed else [losses]):
        if losses is not None and not (isinstance(loss, Mapping) and loss.get('type')):
            raise InputError(
                f'{where}{f".{i}" if listed else ""} is {loss!r}; it must be a dict with the type '
                "of a loss, such as dict(type='CrossEntropyLoss')"
            )


def _check_ignored(where: str, head: Mapping[str, Any]) -> None:
    if head.get('ignore_index', 255) != 255:
        raise InputError(
            f'{where}.ignore_index is {head["ignore_index"]!r}: pixels that a walk leaves out are '
            'labelled 255 at every step, whatever the masks call them, so leave ignore_index at '
            '255. A class that shall not be learnt is left out by its id in the masks '
            '(protocol.void_ids), not by the heads'
        )
    for i, loss in enumerate(losses_of(head)):
        kind, key = type_name(loss.get('type')), 'ignore_index'
        if kind == 'OhemCrossEntropy':
            key = 'ignore_label'
        # The ignore_index of DiceLoss is an output, not a label.
        if kind != 'DiceLoss' and loss.get(key, 255) != 255:
            listed = isinstance(head['loss_decode'], (list, tuple))
            raise InputError(
                f'{where}.loss_decode{f".{i}" if listed else ""}.{key} is {loss[key]!r}: pixels '
                'that a walk leaves out are labelled 255 at every step; leave it at 255'
            )


def check_growth(model: Mapping[str, Any]) -> None:
    """Refuse heads with weights that depend on the number of classes and do not grow.

    A head that cannot be built is left to the code that builds the network.

    Args:
        model: See :func:`check_model`.

    Raises:
        InputError: There is such a head.
    """
    for name in ('decode_head', 'auxiliary_head'):
        heads: Any = model.get(name)
        listed = isinstance(heads, (list, tuple))
        for i, head in enumerate(heads if listed else [heads]):
            stuck = _stuck(head) if isinstance(head, Mapping) else []
            if stuck:
                where = f'model.{name}.{i}' if listed else f'model.{name}'
                raise InputError(
                    f'{where} ({type_name(head.get("type"))}) has weights that depend on the '
                    f'number of classes and are no layer with a row for each: '
                    f'{", ".join(stuck[:3])}. They cannot grow from step to step: use a head '
                    f'that classifies with conv_seg {GROWING}; a head that learns something '
                    'other than the classes of the data set says so by the attribute '
                    'own_target = True of its class'
                )


def _stuck(head: Mapping[str, Any]) -> list[str]:
    inner = head.get('kernel_generate_head')
    kinds = [head_class(part) for part in (head, inner) if isinstance(part, Mapping)]
    if (
        all(
            kind is not None and kind.__module__.startswith(('mmseg.', 'mmseg_cil.'))
            for kind in kinds
        )
        and type_name(head.get('type')) not in _UNFIT_HEADS
    ):
        # MMSegmentation's own heads are known, and building one takes up to a second.
        return []
    try:
        return what_cannot_grow(head)
    except Exception:
        return []


def tell_losses(model: Mapping[str, Any], method: MethodConfig, classes: StepClasses) -> None:
    """Print notes on the losses of the user's heads that a walk changes or replaces, each once.

    Args:
        model: ``model`` of the user's config.
        method: Method of the walk.
        classes: Classes of any step.

    Raises:
        InputError: Weights of classes are wrong, or a loss of the method is no config of a loss.
    """
    if method.loss_decode:
        _check_losses('method.loss_decode', method.loss_decode)
    said: dict[str, list[str]] = {}
    for where, head in named_heads(model):
        for text in _notes(where, head, method, classes):
            said.setdefault(text, []).append(where)
    for text, places in said.items():
        print_log(f'{", ".join(places)}: {text}', 'current', logging.WARNING)


def _notes(
    where: str, head: Mapping[str, Any], method: MethodConfig, classes: StepClasses
) -> Iterator[str]:
    losses, own = losses_of(head), method.loss_decode
    gone = is_replaced(losses) if own else [False] * len(losses)
    kept = [loss for loss, replaced in zip(losses, gone, strict=True) if not replaced]
    names = [
        _described(loss)
        for loss, replaced in zip(losses, gone, strict=True)
        if replaced and (_settings(loss) or type_name(loss['type']) != 'CrossEntropyLoss')
    ]
    if names:
        learns: Any = own if isinstance(own, (list, tuple)) else [own]
        yield (
            f'method {method.name} learns by '
            f'{" and ".join(type_name(module["type"]) for module in learns)} in place of '
            f'{" and ".join(names)}, whose settings are without effect (method.loss_decode '
            'may be a list with further losses)'
        )
    if own and kept:
        yield (
            f'{" and ".join(type_name(loss["type"]) for loss in kept)} stays beside the loss of '
            f'method {method.name}; where labels call old classes background, it takes '
            'them and the background for one class'
        )
    # Wrong weights are refused even if the method does not use them.
    for_step(head, classes, where)
    weighed = [loss for loss in kept if loss.get('class_weight') is not None]
    if weighed:
        added = (
            '; that of a background that the data set does not list is 1'
            if None in classes.places
            else ''
        )
        yield (
            f'class_weight of {" and ".join(type_name(loss["type"]) for loss in weighed)}: each '
            f'step takes the weights of its own classes, in their order{added}'
        )
    if head.get('out_channels') == 1:
        yield 'out_channels=1 (one output for two classes) becomes one output for each class'


def _settings(loss: Mapping[str, Any]) -> dict[str, Any]:
    """Return a loss's settings besides type, name and weight that differ from the defaults."""
    kind = head_class(loss)
    defaults = signature(kind).parameters if kind else {}
    return {
        key: value
        for key, value in loss.items()
        if key not in _USUAL_SETTINGS and _differs(value, defaults.get(key))
    }


def _differs(value: Any, parameter: Parameter | None) -> bool:
    return parameter is None or repr(value) != repr(parameter.default)


def _described(loss: Mapping[str, Any]) -> str:
    settings = ', '.join(
        f'{key}={value!r}' if isinstance(value, (bool, int, float, str)) else f'{key}=...'
        for key, value in _settings(loss).items()
    )
    return f'{type_name(loss["type"])}({settings})'
