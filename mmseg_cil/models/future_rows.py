"""Rows of a classifier for the classes that later steps of the protocol introduce."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmseg_cil.contracts import NetworkChange
from mmseg_cil.errors import InputError
from mmseg_cil.models.growth import weights_by_class
from mmseg_cil.models.head_losses import loss_modules
from mmseg_cil.models.heads import auxiliary_heads, decode_heads, has_own_target
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.finite import named, not_finite
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.weights_files import NotDataError, read_weights

#: Name of the further convolution in a head. Patterns such as '*.conv_seg*' match it, too.
NAME = 'conv_seg_future'
#: Key, in the file that is handed on, of the number of classes before the first future one.
FIRST = 'first'


class FutureConv(nn.Conv2d):
    """The rows of future classes in a head."""

    def append(self, classifier: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        """Append the outputs of these rows to those of ``conv_seg``, as its forward hook.

        Args:
            classifier: The convolution ``conv_seg``.
            inputs: Its input, ``(N, D, h, w)``.
            logits: Its output, ``(N, C, h, w)``.
        """
        return torch.cat([logits, self(*inputs)], dim=1)


@MODELS.register_module()
class FutureRows(NetworkChange):
    """Trains rows of all classes to come, from the first step on; for any method.

    Each head that classifies gets a further convolution beside ``conv_seg``, with a row for each
    class of a later step. Losses of the heads see the outputs of these rows after those of the
    classes, so that the softmax learns them to be low; distillers and teachers see the classes
    alone. After the step the rows are cut off, so its checkpoint is plain and predicts the classes
    seen. They are handed on in ``network_change.pth``, and the next step's new classes begin with
    their rows, in place of those of ``classifier_init``.

    The number of classes is that of the protocol, which must tell it in advance. Where steps are
    added to a finished walk, or the last step was trained by another method, there are no rows (or
    too few) to go on with: new classes then begin as ``classifier_init`` says, and future rows as
    the head initialises its classifier.

    Source: Zhang et al., arXiv 2508.04267, 2025; BladeDancer957/RevisitingCSS
    ``segmentation_module.py``, ``--pre_allocate``. There, future classes take part in the argmax of
    a test, too; here they do not.
    """

    def __init__(self) -> None:
        self._heads: dict[str, BaseDecodeHead] = {}
        self._handles: list[Any] = []

    def install(self, model: nn.Module, learnt: bool) -> None:
        """Add the convolutions, unless the step is the last that brings classes.

        Raises:
            InputError: A head has further layers with a row a class, or a loss weighs classes.
        """
        step = model.step
        assert isinstance(step, StepContext)
        self.extra_outputs = step.num_future
        self._heads = {**decode_heads(model), **auxiliary_heads(model)}
        if not self.extra_outputs:
            return
        _check_heads(model)
        for name, head in self._heads.items():
            _check_losses(name, head)
            future = FutureConv(**_like_classifier(head.conv_seg, self.extra_outputs))
            head.add_module(NAME, future)
            # A bound method, which a copy of the network (of EMAHook) binds to its own rows.
            self._handles.append(head.conv_seg.register_forward_hook(future.append))

    @contextmanager
    def plain_form(self, model: nn.Module) -> Iterator[None]:
        """Take the convolutions out of the heads, for a while."""
        taken = {
            name: head._modules.pop(NAME)
            for name, head in self._heads.items()
            if NAME in head._modules
        }
        try:
            yield
        finally:
            for name, conv in taken.items():
                self._heads[name].add_module(NAME, conv)

    def begin(self, model: nn.Module, kept: Path | None) -> None:
        """Initialise the future rows, and give new and future classes the rows handed on.

        Raises:
            InputError: The file cannot be read or is of another network, or the method has
                self-supervision, whose outputs stand in the same place.
        """
        if self.extra_outputs and getattr(model, 'self_supervision', None) is not None:
            raise InputError(
                'FutureRows adds outputs after those of the classes, and so does '
                'method.self_supervision: leave one of them out'
            )
        for head in self._heads.values():
            if NAME in head._modules:
                _initialise(head)
        if kept is not None and kept.is_file():
            self._take(kept)

    def _take(self, path: Path) -> None:
        state = _read(path)
        first = int(state[FIRST])
        with torch.no_grad():
            for name, head in self._heads.items():
                for part in ('weight', 'bias'):
                    targets = [head.conv_seg.get_parameter(part)[first:]]
                    if NAME in head._modules:
                        targets.append(head.get_submodule(NAME).get_parameter(part))
                    rows = state.get(f'{name}.conv_seg.{part}')
                    if rows is None or rows.shape[1:] != targets[0].shape[1:]:
                        raise InputError(
                            f'the future rows in {path} are not those of {name}: remove the file '
                            'to begin without them, or use the model config of that step'
                        )
                    for target in targets:
                        count = min(len(target), len(rows))
                        target[:count] = rows[:count].to(target)
                        rows = rows[count:]

    def finish(self, model: nn.Module) -> dict[str, Tensor]:
        """Cut the future rows off, and return them."""
        rows: dict[str, Tensor] = {}
        for name, head in self._heads.items():
            conv = head._modules.pop(NAME, None)
            if conv is not None:
                rows[FIRST] = torch.tensor(head.conv_seg.out_channels)
                for part, value in conv.named_parameters():
                    rows[f'{name}.conv_seg.{part}'] = value.detach().cpu().clone()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.extra_outputs = 0
        return rows


def _like_classifier(own: nn.Conv2d, count: int) -> dict[str, Any]:
    """Return the arguments of a convolution that differs from a classifier in its rows alone."""
    return dict(
        in_channels=own.in_channels,
        out_channels=count,
        kernel_size=own.kernel_size,
        stride=own.stride,
        padding=own.padding,
        dilation=own.dilation,
        groups=own.groups,
        bias=own.bias is not None,
        padding_mode=own.padding_mode,
    )


def _initialise(head: BaseDecodeHead) -> None:
    """Initialise the future rows as the head initialises its classifier."""
    conv: Any = head.get_submodule(NAME)
    like = copy.deepcopy(head)
    del like._modules[NAME]
    like.conv_seg = nn.Conv2d(**_like_classifier(head.conv_seg, conv.out_channels))
    for module in like.modules():
        # MMEngine passes over modules that have been initialised.
        if hasattr(module, '_is_init'):
            module._is_init = False
    like.init_weights()
    conv.load_state_dict(like.conv_seg.state_dict())


def _check_heads(model: Any) -> None:
    """Refuse heads in which more than ``conv_seg`` has a row a class, and cascades."""
    config = model._network_config
    for place in ('decode_head', 'auxiliary_head'):
        heads = config.get(place) or []
        listed = heads if isinstance(heads, (list, tuple)) else [heads]
        if place == 'decode_head' and len(listed) > 1:
            raise InputError(
                f'FutureRows: the network has a cascade of {len(listed)} decode heads, and rows of '
                'later classes can be kept for a single one: use a network with one decode head, '
                'such as ASPPHead, or leave method.network_change out'
            )
        for head in listed:
            if has_own_target(head):
                continue
            found = set(weights_by_class(head)) - {'conv_seg.weight', 'conv_seg.bias'}
            if found:
                raise InputError(
                    f'FutureRows: {head.get("type")} takes its outputs for classes in more than '
                    f'conv_seg {sorted(found)}: use a head that classifies with conv_seg alone, '
                    'such as ASPPHead, or leave method.network_change out'
                )


def _check_losses(name: str, head: nn.Module) -> None:
    for loss in loss_modules(head):
        if getattr(loss, 'class_weight', None) is not None:
            raise InputError(
                f'FutureRows: {name}.loss_decode has weights for the classes of the step, and '
                'future classes have none: leave class_weight out'
            )


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        state = read_weights(path)
        if bad := not_finite(state):
            raise ValueError(f'{named(bad)} hold values that are not finite')
        if FIRST not in state:
            raise ValueError('it holds no future rows')
    except NotDataError:
        raise
    except Exception as error:
        raise InputError(
            f'the future rows in {path} cannot be read ({error}): remove the file to begin without '
            'them, or run that step again'
        ) from error
    found: Mapping[str, Tensor] = state
    return found
