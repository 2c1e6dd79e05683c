"""Fusing a step's weights with those that it began with."""

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

    It acts once a step after the first that trained is over and the network is plain again
    (branches merged, averages in place), before any hook keeps something of it. What such a merge
    folds into another layer is folded in the weights of the beginning too. Every
    floating-point entry is fused, norm statistics too; counters of norms are left out, and what
    belongs to new classes stays as trained.

    At a step without new classes (by domain) K = 0 and a = 0: the step would be undone. So
    there a ``factor`` must be given.

    Source: Xiao et al., CVPR 2023; schuy1er/EWF_official ``run.py``. There old rows of the
    classifier do not train (``--fix_pre_cls``); here they do, unless ``method.freezing`` holds
    them.

    Args:
        factor: a, from 0 (the step is undone but for the new classes) to 1 (nothing is fused). By
            default :math:`\sqrt{K / (K + O)}` of K new and O old classes, the background among
            these.
        start: 'grown' (default, ours): the weights that training began with, where the
            initialisation of new classes may have moved old rows, such as the background's in the
            balanced one. 'official': those of the last step, so that this move is undone by
            ``1 - a`` of it.
        threshold_choice: Entries that changed less than the 45 % that changed most keep their
            new value, an official option that the paper does not tell of. Defaults to False.

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
        """Ask before training whether there is a factor for the step.

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
        """Fuse, where an earlier step has learnt something."""
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
        end: Weights after a step, by name; they change.
        start: Before it. Their shapes are those of ``end`` or, where classes were added, smaller;
            what more there is in ``end`` stays.
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
    """The entries that both have, those of ``end`` as views."""
    for name, before in start.items():
        after = end[name]
        if after.is_floating_point():
            common = tuple(slice(0, size) for size in before.shape)
            yield after[common], before.to(after)


def _threshold(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    changes = torch.cat([(after - before).abs().flatten() for after, before in pairs])
    count = max(int(FUSED_SHARE * len(changes)), 1)
    return changes.kthvalue(len(changes) - count + 1).values
