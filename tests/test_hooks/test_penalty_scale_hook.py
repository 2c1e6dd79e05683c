"""A penalty out of all proportion is told once, with both figures, and nothing waits for it."""

from types import SimpleNamespace

import pytest
import torch

from mmseg_cil.hooks import PenaltyScaleHook


def said(penalties, others, interval=10, hook=None):
    """Warnings of a step of so many iterations."""
    lines = []
    runner = SimpleNamespace(
        iter=0, max_iters=len(penalties), logger=SimpleNamespace(warning=lines.append)
    )
    hook = hook or PenaltyScaleHook(interval)
    for runner.iter, (penalty, other) in enumerate(zip(penalties, others, strict=True)):
        losses = {
            'loss': penalty + other,
            'decode.loss_ce': other,
            'regularise.loss_dfd': penalty / 4,
            'regularise.loss_vdfd': 3 * penalty / 4,
            # Neither is part of the penalty that the network feels.
            'regularise.vdfd_quadratic': 1e9,
            'regularise.apart_vdfd': 1e9,
        }
        hook.after_train_iter(
            runner, runner.iter, None, {key: torch.tensor(value) for key, value in losses.items()}
        )
    return lines


@pytest.mark.parametrize('ratio', [0.001, 1.0, 90.0])
def test_nothing_is_said_of_usual_penalties(ratio):
    # It begins at 0, and so its first windows are far below.
    assert said([0.0] * 25 + [2.0 * ratio] * 25, [2.0] * 50) == []


def test_far_above_is_told_once_with_both_figures():
    lines = said([1.0] * 10 + [440.0] * 40, [2.0] * 50)
    assert len(lines) == 1
    assert 'far above the other losses, 440 against 2 in the mean of the last 10' in lines[0]
    assert 'lower the loss_weight of method.regularisers' in lines[0]
    # A short step has one window; a single high value is none.
    assert len(said([0.0, 900.0, 900.0], [2.0] * 3)) == 1
    assert said([0.0] * 9 + [900.0], [2.0] * 10) == []


def test_far_below_is_told_at_the_end():
    lines = said([1e-5] * 25, [2.0] * 25)
    assert len(lines) == 1 and '1e-05 against 2 in the mean of the last 25' in lines[0]
    assert 'raise the loss_weight' in lines[0]
    assert said([1e-5] * 24 + [1.0], [2.0] * 25) == []


def test_without_a_penalty_there_is_nothing_to_say():
    hook, runner = PenaltyScaleHook(1), SimpleNamespace(iter=0, max_iters=1)
    for outputs in (None, {}, {'loss': torch.tensor(1.0)}, {'regularise.loss_x': 1.0}):
        hook.after_train_iter(runner, 0, None, outputs)
    # Nor where all pixels are ignored.
    assert said([5.0] * 10, [0.0] * 10) == []
