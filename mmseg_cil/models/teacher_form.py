"""Cheaper forms of a network that does not learn: see :class:`mmseg_cil.contracts.TeacherForm`."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks import wrappers
from mmseg.models.backbones import ResNet, resnest
from mmseg.models.backbones.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_cil.contracts import NetworkOutput, TeacherForm
from mmseg_cil.models.compiled_teacher import CompiledTeacher
from mmseg_cil.models.heads import auxiliary_heads, classifier_holder, decode_heads
from mmseg_cil.models.memory_format import arranged, keep_channels_last

#: Layers whose weights autocast converts at every call; derived classes may read them otherwise.
_CONVERTED = (nn.Conv2d, nn.Linear, wrappers.Conv2d, wrappers.Linear)
#: Residual blocks that call ``conv1``, ``norm1``, ``conv2`` and so on, one after the other.
_BLOCKS = (BasicBlock.forward, Bottleneck.forward, resnest.Bottleneck.forward)
#: A norm that directly follows a convolution: the convolution, the norm's owner, the norm's name.
Pair = tuple[nn.Module, nn.Module, str]


class FormedNetwork:
    """A teacher's network in its form, and how a batch is run through it.

    Args:
        network: The network in evaluation mode, with its weights; it is changed in place.
        form: The form.
    """

    def __init__(self, network: nn.Module, form: TeacherForm) -> None:
        self.form = form
        if form.fold_norms:
            fold_norms(network)
        if form.channels_last:
            keep_channels_last(network)
        self._layers = _converted_layers(network) if form.dtype else []
        self._compiled = None if form.compile is False else CompiledTeacher(network, form.compile)
        self._weights: dict[torch.dtype, list[dict[str, nn.Parameter]]] = {}

    def arranged(self, inputs: Tensor) -> Tensor:
        """Return images ``(N, 3, H, W)`` in the memory format of the network."""
        return arranged(inputs) if self.form.channels_last else inputs

    @contextlib.contextmanager
    def computing(self, device: torch.device) -> Iterator[None]:
        """Compute in the form's number format, with compiled code, within the block."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._precision(device))
            if self._compiled is not None:
                stack.enter_context(self._compiled.used())
            yield

    @contextlib.contextmanager
    def _precision(self, device: torch.device) -> Iterator[None]:
        kind = device.type
        dtype = self._dtype(kind)
        if dtype is None:
            yield
            return
        with torch.autocast(kind, dtype=dtype), self._converted(dtype, device):
            yield

    def in_format_of_run(self, record: NetworkOutput, device: torch.device) -> NetworkOutput:
        """Return a record with maps in the number format of the student's."""
        if self.form.dtype in (None, 'run'):
            return record
        kind = device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        changed = {
            entry.name: _as_format(getattr(record, entry.name), dtype)
            for entry in fields(record)
            if entry.name != 'classifier'
        }
        return replace(record, **changed)

    def _dtype(self, kind: str) -> torch.dtype | None:
        """Return the format of autocast in the form; None where the form has none."""
        if self.form.dtype is None:
            return None
        if self.form.dtype == 'run':
            return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        dtype: torch.dtype = getattr(torch, self.form.dtype)
        return dtype

    @contextlib.contextmanager
    def _converted(self, dtype: torch.dtype, device: torch.device) -> Iterator[None]:
        """Give the layers weights of a number format, made once, within the block."""
        weights = self._weights.get(dtype)
        if weights is None or (weights and next(iter(weights[0].values())).device != device):
            weights = [
                {
                    name: nn.Parameter(value.to(dtype), requires_grad=False)
                    for name, value in layer._parameters.items()
                    if value is not None
                }
                for layer in self._layers
            ]
            self._weights[dtype] = weights
        former = [dict(layer._parameters) for layer in self._layers]
        for layer, converted in zip(self._layers, weights, strict=True):
            layer._parameters.update(converted)
        try:
            yield
        finally:
            for layer, own in zip(self._layers, former, strict=True):
                layer._parameters.update(own)


def fold_norms(network: nn.Module) -> int:
    """Make batch norms part of the convolutions that they follow, in place.

    Folded are norms of which the code says that they directly follow a convolution: those of
    MMCV's ``ConvModule``, of MMSegmentation's residual blocks and stems, and neighbours in a
    ``Sequential``. All others stay.

    Args:
        network: A network in evaluation mode.

    Returns:
        Number of norms that were folded.
    """
    pairs = list(_pairs(network))
    uses = Counter(
        id(module)
        for _, module in network.named_modules(remove_duplicate=False)
        if isinstance(module, (nn.Conv2d, _BatchNorm))
    )
    folded = 0
    for convolution, owner, name in pairs:
        norm = owner._modules[name]
        # A layer that is used at several places is left alone.
        if norm is not None and uses[id(norm)] == uses[id(convolution)] == 1:
            _fold(convolution, norm)
            owner._modules[name] = nn.Identity()
            folded += 1
    return folded


def _pairs(network: nn.Module) -> Iterator[Pair]:
    for module in network.modules():
        forward: Any = type(module).forward
        for convolution, name in _following(module, forward):
            layer = module._modules.get(convolution)
            norm = module._modules.get(name)
            if _can_fold(layer, norm):
                assert layer is not None
                yield layer, module, name


def _following(module: nn.Module, forward: Any) -> list[tuple[str, str]]:
    """Return the names of the children that directly follow each other, as far as is known."""
    if isinstance(module, ConvModule) and forward is ConvModule.forward:
        order = list(module.order)
        follows = order.index('norm') == order.index('conv') + 1
        return [('conv', module.norm_name)] if module.with_norm and follows else []
    if isinstance(module, nn.Sequential) and forward is nn.Sequential.forward:
        return list(pairwise(module._modules))
    if forward in _BLOCKS:
        names = [(f'conv{i}', getattr(module, f'norm{i}_name', '')) for i in (1, 2, 3)]
        return [(layer, norm) for layer, norm in names if norm]
    if isinstance(module, ResNet) and forward is ResNet.forward and not module.deep_stem:
        return [('conv1', module.norm1_name)]
    return []


def _can_fold(layer: nn.Module | None, norm: nn.Module | None) -> bool:
    return (
        type(layer) in (nn.Conv2d, wrappers.Conv2d)
        and isinstance(norm, _BatchNorm)
        and norm.running_var is not None
        and not norm.training
        # A weight that is computed, as by a spectral norm, is no parameter.
        and layer._parameters.get('weight') is not None  # type: ignore[union-attr]
    )


def _fold(layer: Any, norm: Any) -> None:
    """Multiply and shift the outputs of a convolution by what a norm does to them."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = (
        -norm.running_mean.double()
        if layer.bias is None
        else (layer.bias.double() - norm.running_mean.double())
    )
    shift = shift * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    kind = layer.weight.dtype
    weight = layer.weight.double() * scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
    layer.weight = nn.Parameter(weight.to(kind), requires_grad=False)
    layer.bias = nn.Parameter(shift.to(kind), requires_grad=False)


def _converted_layers(network: nn.Module) -> list[nn.Module]:
    """Return the layers whose weights autocast converts, but not the classifiers of the heads.

    A record has the rows of the classifier in their own format.
    """
    heads = [*decode_heads(network).values(), *auxiliary_heads(network).values()]
    classifiers = {id(getattr(classifier_holder(head), 'conv_seg', None)) for head in heads}
    return [
        module
        for module in network.modules()
        if type(module) in _CONVERTED and id(module) not in classifiers
    ]


def _as_format(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, tuple):
        return tuple(_as_format(part, dtype) for part in value)
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
