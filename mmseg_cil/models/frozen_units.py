"""The units of a backbone and neck: whether they are frozen, and whether two of them are equal."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import Sequential
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

#: Containers that are no layer: their elements run by themselves. Classes derived from
#: ``Sequential``, such as the stages of a ResNet, are layers.
_LISTS = (nn.ModuleList, nn.ModuleDict)
_SEQUENCES = (nn.Sequential, Sequential)
#: Layers of PyTorch that compute otherwise in training than in evaluation.
_WITH_MODE = (_NormBase, _DropoutNd, nn.RReLU, nn.MultiheadAttention)
#: Where layers come from that compute the same in both modes, but for those of ``_WITH_MODE``.
_KNOWN = ('torch.nn.modules.', 'mmcv.cnn.bricks.wrappers')


def units_of(network: Any) -> dict[str, nn.Module]:
    """Return the layers and stages of a segmentor's backbone and neck, by their names.

    A unit is a child of backbone or neck; lists of modules and plain ``Sequential`` are replaced
    by their elements. A unit with two names has the first.

    Args:
        network: A segmentor.
    """
    units: dict[str, nn.Module] = {}
    seen: set[int] = set()

    def add(name: str, module: nn.Module) -> None:
        if isinstance(module, _LISTS) or type(module) in _SEQUENCES:
            for child, inner in module.named_children():
                add(f'{name}.{child}', inner)
        elif id(module) not in seen:
            seen.add(id(module))
            units[name] = module

    for part in ('backbone', 'neck'):
        owner = getattr(network, part, None)
        if isinstance(owner, nn.Module):
            for child, module in owner.named_children():
                add(f'{part}.{child}', module)
    return units


def outer_tensors(network: Any) -> list[Tensor]:
    """Return parameters and buffers of backbone and neck that belong to no unit."""
    owners = [getattr(network, part, None) for part in ('backbone', 'neck')]
    return [
        tensor
        for owner in owners
        if isinstance(owner, nn.Module)
        for tensor in (*owner.parameters(recurse=False), *owner.buffers(recurse=False))
    ]


def why_not_frozen(unit: nn.Module) -> str:
    """Return why the outputs of a unit may change in training, for a message; empty if not.

    Args:
        unit: A unit of the student, in its mode of training.
    """
    if any(parameter.requires_grad for parameter in unit.parameters()):
        return 'is trained'
    for name, module in unit.named_modules():
        alone = next(module.children(), None) is None
        if (alone or isinstance(module, nn.MultiheadAttention)) and not _is_still(module):
            inner = f'has {name}, ' if name else 'is '
            return f'{inner}a {type(module).__name__} that computes as in training'
    return _watched(unit)


def _is_still(module: nn.Module) -> bool:
    """Return whether a module without inner ones computes as in evaluation."""
    if isinstance(module, _NormBase) and module.running_mean is None:
        return not isinstance(module, nn.SyncBatchNorm)  # of the batch's own statistics, always
    known = type(module).__module__.startswith(_KNOWN)
    return not module.training or (known and not isinstance(module, _WITH_MODE))


def is_watched(module: nn.Module) -> bool:
    """Return whether hooks see the inputs or outputs of a module when it runs."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _watched(unit: nn.Module) -> str:
    """Return why the run of a unit may be more than its output; empty if it is not."""
    for name, module in unit.named_modules():
        if (name and is_watched(module)) or 'forward' in vars(module):
            return f'has {name or "itself"} watched by a hook or replaced'
    return ''


def difference(own: nn.Module, other: nn.Module) -> str:
    """Return in what a teacher's unit differs from the student's, for a message; empty if equal.

    Weights are compared bit by bit, with their formats and their layouts in memory.

    Args:
        own: The student's unit.
        other: The teacher's unit, on the same device.
    """
    if _described(own) != _described(other):
        return 'is made of other layers (method.teacher_form, or a change of the network)'
    if _watched(other):
        return f'{_watched(other)} in the teacher'
    own_tensors, other_tensors = dict(_tensors(own)), dict(_tensors(other))
    if own_tensors.keys() != other_tensors.keys():
        return 'has other parameters'
    for name, tensor in own_tensors.items():
        twin = other_tensors[name]
        if tensor.shape != twin.shape or tensor.dtype != twin.dtype:
            return f'has {name} in another format'
        if tensor.stride() != twin.stride():
            return f'has {name} in another layout in memory (channels last)'
        if not torch.equal(tensor, twin):
            return f'has other values in {name}'
    return ''


def _tensors(unit: nn.Module) -> list[tuple[str, Tensor]]:
    # The count of batches, which a frozen norm does not read, is left out.
    named = (*unit.named_parameters(), *unit.named_buffers())
    return [(name, value) for name, value in named if not name.endswith('num_batches_tracked')]


def _described(unit: nn.Module) -> str:
    """Return all layers of a unit with their settings; a teacher has BN in place of SyncBN."""
    return repr(unit).replace('SyncBatchNorm', 'BatchNorm2d')
