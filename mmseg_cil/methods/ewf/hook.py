"""Fusion of a step's final weights with the weights that the step began with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from mmengine.runner import Runner
from torch import Tensor, nn

from mmseg_cil.contracts import StepHook, network_of
from mmseg_cil.errors import InputError
from mmseg_cil.methods.ewf.reference import FUSED_SHARE, fusion_factor
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.values import check_number

STARTS = ('grown', 'official')


@HOOKS.register_module()
class EWFHook(StepHook):
    r"""Replaces the final weights w of a step by :math:`(1 - a) w_{start} + a w`.

    The hook acts at the end of every step after the first one that trained. At that moment the
    network is plain again (branches merged, averaged weights in place), and no hook has kept
    anything of the step. Layers that a merge of branches folds into another layer are folded in
    the start weights too. Every floating-point entry is fused, norm statistics included;
    counters of norms are left out, and entries of new classes stay as trained.

    At a step without new classes (by domain) K = 0, so the default a = 0 would undo the step. For
    such a step a ``factor`` must be given.

    Source: Xiao et al., CVPR 2023; schuy1er/EWF_official ``run.py``. In the official code the old
    rows of the classifier do not train (``--fix_pre_cls``); here the old rows train, unless
    ``method.freezing=dict(old_rows=True)`` freezes them, as it does in ``mib_ewf`` and the other
    pieces with EWF.

    Args:
        factor: a, from 0 (the step is undone except for the new classes) to 1 (nothing is fused).
            By default :math:`\sqrt{K / (K + O)}` with K new and O old classes, where O includes
            the background.
        start: 'grown' (default, ours): the weights with which training began. In these weights
            the initialisation of new classes may have changed old rows, as 'balanced' changes the
            background's row. 'official': the weights of the last step, so that fusion undoes the
            share ``1 - a`` of this change.
        threshold_choice: Fuse only the 45 % of the entries that changed most; the others keep
            their new value. The option is in the official code but not in the paper. Defaults to
            False.

    Raises:
        InputError: An option is out of range.
    """

    rehearsed = True

    def __init__(
        self, factor: float | None = None, start: str = 'grown', threshold_choice: bool = False
    ) -> None:
        if factor is not None:
            check_number(self, 'factor', factor, most=1.0)
        if start not in STARTS:
            raise InputError(f'EWFHook: start must be one of {STARTS}, got {start!r}')
        self.factor = factor
        self.start = start
        self.threshold_choice = threshold_choice

    def check_network(self, network: nn.Module) -> None:
        """Check before training that the step has a factor.

        Raises:
            InputError: The step has no new classes, and no factor is given.
        """
        if not isinstance(network, IncrementalEncoderDecoder):
            return
        step = network.step
        if step.index > 0 and step.num_new == 0 and self.factor is None:
            raise InputError(
                f'EWFHook: step {step.index} has no new classes, so the factor '
                'sqrt(K / (K + O)) is 0, and fusion would undo the step: give a factor, such as '
                "dict(type='EWFHook', factor=0.5), or leave the hook out"
            )

    def change_weights(self, runner: Runner) -> None:
        """Fuse the weights, if an earlier step has trained."""
        model = network_of(runner)
        assert isinstance(model, IncrementalEncoderDecoder)
        step = model.step
        if not step.trained:
            return
        factor = self.factor
        if factor is None:
            factor = fusion_factor(step.num_old, step.num_new)
        start = model.begun_state() if self.start == 'grown' else model.previous_state()
        start = model.in_finished_form(start)
        fuse_into(plain_state_dict(model.state_dict()), start, factor, self.threshold_choice)
        runner.logger.info(
            f'EWF fused the weights: {factor:.4f} of those after the step, '
            f'{1 - factor:.4f} of those before it'
        )


@torch.no_grad()
def fuse_into(
    end: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    factor: float,
    threshold_choice: bool = False,
) -> None:
    """Fuse weights in place.

    Args:
        end: Weights after a step, by name; changed in place.
        start: Weights before the step, with the shapes of ``end`` or, where classes were added,
            smaller ones. Entries of ``end`` beyond these shapes stay as they are.
        factor: Share of ``end``.
        threshold_choice: See :class:`EWFHook`.
    """
    pairs = list(_pairs(end, start))
    threshold = _threshold(pairs) if threshold_choice else None
    for after, before in pairs:
        fused = torch.lerp(before, after, factor)
        if threshold is not None:
            fused = torch.where((after - before).abs() < threshold, after, fused)
        after.copy_(fused)


def _pairs(
    end: Mapping[str, Tensor], start: Mapping[str, Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the floating-point entries that both mappings have, those of ``end`` as views."""
    for name, before in start.items():
        after = end[name]
        if after.is_floating_point():
            common = tuple(slice(0, size) for size in before.shape)
            yield after[common], before.to(after)


def _threshold(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    changes = torch.cat([(after - before).abs().flatten() for after, before in pairs])
    count = max(int(FUSED_SHARE * len(changes)), 1)
    return changes.kthvalue(len(changes) - count + 1).values
