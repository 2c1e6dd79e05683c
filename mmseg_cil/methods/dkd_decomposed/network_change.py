"""The network of foreground classes: row 0 of each classifier is the background's, constantly 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmseg.models.decode_heads import IterativeDecodeHead, PointHead
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.hooks import RemovableHandle

from mmseg_cil.contracts import NetworkChange
from mmseg_cil.errors import InputError
from mmseg_cil.losses.foreground import check_foreground
from mmseg_cil.models.freezing import norms_with_statistics
from mmseg_cil.models.heads import classifier_of
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.finite import named, not_finite
from mmseg_cil.utils.weights_files import NotDataError, read_weights


@MODELS.register_module()
class ForegroundRows(NetworkChange):
    """Classifiers of foreground classes, with row 0 as an auxiliary row while a step trains.

    In evaluation the output of the background is 0 everywhere, so that a pixel is background if no
    foreground output is above 0, a sigmoid of 0.5. After the step row 0 is 0, which makes the
    checkpoint a plain one with the same predictions.

    With the auxiliary row, output 0 is in training that of a row of its own, whose input is
    detached: the row learns from its loss (``AuxiliaryOutputLoss``) and the embedding does not.
    The row goes from step to step in ``network_change.pth``, and the rows of new classes begin as
    its copies. The accuracy in the log counts this output in place of the background's.

    A step may follow one that another method trained, with a background of its own. Then the
    background's row is subtracted from the rows of all old classes, which leaves the predictions
    as they were, and new rows begin as ``classifier_init`` makes them (ours).

    The official code also keeps norms and dropout still in later steps. ``method.freezing`` holds
    norm statistics; this part holds the norms' scales and shifts, and switches dropout off.

    Source: Baek et al., NeurIPS 2022, section 3.3; cvlab-yonsei/DKD ``models/model.py``; that the
    background is a zero row is ours, and equal to the threshold.

    Args:
        auxiliary: Whether row 0 is an auxiliary row in training. Defaults to True.
        train_norms: Whether scales and shifts of norms with running statistics train in steps
            after the first one that trained. Defaults to False, as in the official code.
        dropout: Whether the heads' dropout acts in these steps. Defaults to False, as in the
            official code.
    """

    def __init__(
        self, auxiliary: bool = True, train_norms: bool = False, dropout: bool = False
    ) -> None:
        self.auxiliary = auxiliary
        self.train_norms = train_norms
        self.dropout = dropout
        self._learnt = False
        self._heads: tuple[str, ...] = ()
        self._handles: list[RemovableHandle] = []
        self._silenced: list[tuple[_DropoutNd, float]] = []

    def install(self, model: nn.Module, learnt: bool) -> None:
        """Watch the classifiers, and still norms and dropout in later steps.

        Raises:
            InputError: The step has no background or is by domain, or the logits of a head are
                not those of its ``conv_seg``.
        """
        network: Any = model
        check_foreground(network.step, self)
        heads = network.heads
        for name, head in heads.items():
            if isinstance(head, (IterativeDecodeHead, PointHead)):
                raise InputError(
                    f'ForegroundRows: {name} ({type(head).__name__}) does not predict by the rows '
                    'of its conv_seg alone, so a zero row makes no background: use a head such as '
                    'ASPPHead, FCNHead, UPerHead or SegformerHead'
                )
        self._learnt = learnt
        self._heads = tuple(heads)
        self._handles = [
            classifier_of(head).register_forward_hook(_auxiliary if self.auxiliary else _zero)
            for head in heads.values()
        ]
        if not learnt:
            return
        if not self.train_norms:
            for _, norm in norms_with_statistics(model):
                norm.requires_grad_(False)
        if not self.dropout:
            for head in heads.values():
                for module in head.modules():
                    if isinstance(module, _DropoutNd):
                        self._silenced.append((module, module.p))
                        module.p = 0.0

    @torch.no_grad()
    def begin(self, model: nn.Module, kept: Path | None) -> None:
        """Set row 0, and the rows of new classes where an auxiliary row was kept."""
        network: Any = model
        if not self._learnt:
            if not self.auxiliary:
                for _, weight, bias in self._rows(model):
                    weight[0], bias[0] = 0.0, 0.0
            return
        known = network.step.num_known
        found = _read(kept) if self.auxiliary and kept is not None and kept.is_file() else {}
        for name, weight, bias in self._rows(model):
            _subtract_background(weight, bias, known)
            if not found:
                continue
            for rows, key in ((weight, f'{name}.weight'), (bias, f'{name}.bias')):
                row = found.get(key)
                if row is None or row.shape != rows.shape[1:]:
                    raise InputError(
                        f'the auxiliary row in {kept} is of another network: it has no {key} of '
                        f'shape {tuple(rows.shape[1:])}; use the config of the walk, or remove the '
                        'file to begin new classes as after a step of another method'
                    )
                rows[0] = row.to(rows)
                rows[known:] = row.to(rows)

    @torch.no_grad()
    def finish(self, model: nn.Module) -> dict[str, Tensor]:
        """Zero row 0 and return the auxiliary rows, by the names of their heads."""
        kept: dict[str, Tensor] = {}
        for name, weight, bias in self._rows(model):
            if self.auxiliary:
                kept[f'{name}.weight'] = weight[0].detach().cpu().clone()
                kept[f'{name}.bias'] = bias[0].detach().cpu().clone()
            weight[0], bias[0] = 0.0, 0.0
        for handle in self._handles:
            handle.remove()
        for module, probability in self._silenced:
            module.p = probability
        self._handles, self._silenced = [], []
        return kept

    def in_finished_form(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights whose background is 0, with the same predictions."""
        result = dict(state)
        for name in self._heads:
            keys = f'{name}.conv_seg.weight', f'{name}.conv_seg.bias'
            if all(key in result for key in keys):
                weight, bias = (result[key].clone() for key in keys)
                _subtract_background(weight, bias, len(weight))
                result.update(zip(keys, (weight, bias), strict=True))
        return result

    def _rows(self, model: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield name, weight and bias of each head's classifier."""
        network: Any = model
        for name in self._heads:
            classifier = classifier_of(network.heads[name])
            # Every classifier of a head that can grow has a bias.
            assert classifier.bias is not None
            yield name, classifier.weight, classifier.bias


def _subtract_background(weight: Tensor, bias: Tensor, known: int) -> None:
    """Make the background of some first rows 0, in place, and leave what they predict."""
    for rows in (weight, bias):
        rows[1:known] -= rows[0].clone()
        rows[0] = 0.0


def _zero(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Let the background's output be 0."""
    return torch.cat([torch.zeros_like(output[:, :1]), output[:, 1:]], dim=1)


def _auxiliary(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Let output 0 be that of the auxiliary row in training, and 0 in evaluation."""
    if not module.training:
        return _zero(module, inputs, output)
    row = functional.conv2d(
        inputs[0].detach(),
        module.weight[:1],
        module.bias[:1],
        module.stride,
        module.padding,
        module.dilation,
    )
    return torch.cat([row, output[:, 1:]], dim=1)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        found = dict(read_weights(path))
        if bad := not_finite(found):
            raise ValueError(f'{named(bad)} hold values that are not finite')
    except NotDataError:
        raise
    except Exception as error:
        raise InputError(
            f'the auxiliary row in {path} cannot be read ({error}): remove the file to begin new '
            'classes as after a step of another method, or run that step again'
        ) from error
    return found
