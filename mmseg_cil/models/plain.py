"""The plain MMSegmentation form of an incremental network: its config and its weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from mmseg_cil.contracts.method import MethodConfig, Part
from mmseg_cil.models.heads import has_own_target

#: State-dict prefixes of a plain segmentor; all other entries (such as learnt parts
#: of distillers) are needed for training only.
PLAIN_PREFIXES = ('backbone.', 'neck.', 'decode_head.', 'auxiliary_head.')

#: MMSegmentation's segmentors that a walk grows, with our form of each.
SEGMENTORS = {
    'EncoderDecoder': 'IncrementalEncoderDecoder',
    'CascadeEncoderDecoder': 'IncrementalCascadeEncoderDecoder',
}

#: Arguments of our segmentors that a plain one does not have.
INCREMENTAL_KEYS = (
    'step',
    'previous',
    'teacher',
    'teachers',
    *MethodConfig.network_keys(),
    'replay',
    'channels_last',
)


def map_heads(model: Mapping[str, Any], change: Callable[[dict], dict]) -> dict[str, Any]:
    """Copy a model config with ``change`` applied to the config of every head that classifies.

    Auxiliary heads with a target of their own stay as they are. In K-Net's head,
    ``change`` applies to the first part, which has classes and losses; the other parts
    get the same number of classes.
    """
    result = copy.deepcopy(dict(model))
    for name in ('decode_head', 'auxiliary_head'):
        head = result.get(name)
        if head is None:
            continue
        result[name] = (
            [_mapped(part, change) for part in head]
            if isinstance(head, (list, tuple))
            else _mapped(head, change)
        )
    return result


def _mapped(head: Mapping[str, Any], change: Callable[[dict], dict]) -> dict:
    if has_own_target(head):
        return dict(head)
    first = head.get('kernel_generate_head')
    if not isinstance(first, Mapping):
        return change(dict(head))
    changed = _mapped(first, change)
    updates = [
        {**update, 'num_classes': changed['num_classes']} if 'num_classes' in changed else update
        for update in head.get('kernel_update_head') or ()
    ]
    return {**head, 'kernel_generate_head': changed, 'kernel_update_head': updates}


def with_classes(
    head: Mapping[str, Any], num_classes: int, loss: Part | Sequence[Part] | None = None
) -> dict[str, Any]:
    """Copy the config of a head that classifies, with ``num_classes`` classes.

    Args:
        head: Config of the head. A single output for a binary problem becomes one output for
            each class.
        num_classes: Number of classes of the data set at a step.
        loss: Config of the head's new loss, or a list of configs; None keeps the losses.
    """

    def change(own: dict) -> dict:
        own.update(num_classes=num_classes)
        own.pop('out_channels', None)
        return own if loss is None else {**own, 'loss_decode': loss}

    result: dict[str, Any] = map_heads({'decode_head': head}, change)['decode_head']
    return result


def loss_weight(head: Mapping[str, Any]) -> float:
    """Return the weight of a head's loss; for a list of losses the sum."""
    losses = head.get('loss_decode', {})
    listed = losses if isinstance(losses, (list, tuple)) else [losses]
    return float(sum(loss.get('loss_weight', 1.0) for loss in listed))


def scaled_losses(losses: Part | Sequence[Part], factor: float) -> dict[str, Any] | list[dict]:
    """Copy the config of a loss, or a list of configs, with every weight times a factor."""
    if isinstance(losses, Mapping):
        return {**losses, 'loss_weight': losses.get('loss_weight', 1.0) * factor}
    return [{**loss, 'loss_weight': loss.get('loss_weight', 1.0) * factor} for loss in losses]


def plain_model_config(model: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """Return the config of the plain MMSegmentation network with ``num_classes`` outputs.

    Losses become plain cross-entropy (a config that no longer trains an
    incremental step must not ask for our losses), initial weights are dropped
    (a checkpoint holds all of them), and SyncBN becomes BN, so that the network
    also runs on a CPU.

    Args:
        model: Config of an ``EncoderDecoder``, of a cascade, or of our form of either;
            not changed.
        num_classes: Number of outputs of every head.
    """

    def plain_head(head: dict) -> dict:
        head.update(num_classes=num_classes)
        head.pop('out_channels', None)
        head['loss_decode'] = dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=loss_weight(head)
        )
        return head

    plain = map_heads(model, plain_head)
    for key in INCREMENTAL_KEYS:
        plain.pop(key, None)
    plain['type'] = plain_type(model)
    for part in (plain, plain['backbone']):
        part.pop('pretrained', None)
        part.pop('init_cfg', None)
    replaced: dict[str, Any] = replace_value(plain, 'SyncBN', 'BN')
    return replaced


def plain_type(model: Mapping[str, Any]) -> str:
    """Return the type of MMSegmentation's segmentor that a config, or our form in it, is of."""
    name = type_name(model.get('type'))
    return next(
        (plain for plain, own in SEGMENTORS.items() if name in (plain, own)), 'EncoderDecoder'
    )


def type_name(kind: str | type | None) -> str:
    """Return the bare name of a config's type, given as a name, with or without scope, or class."""
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


def plain_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep the weights of a plain MMSegmentation network: backbone, neck and heads."""
    return {key: value for key, value in state_dict.items() if key.startswith(PLAIN_PREFIXES)}


def replace_value(node: Any, old: str, new: str) -> Any:
    """Copy nested dicts and sequences with every occurrence of a value replaced."""
    if isinstance(node, Mapping):
        return {key: replace_value(value, old, new) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(replace_value(value, old, new) for value in node)
    return new if node == old else node
