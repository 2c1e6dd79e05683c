"""check_method passes right methods, and says what is wrong with the others."""

import pytest
import torch
from torch import nn

from mmseg_cil.registry import MODELS
from mmseg_cil.testing import method_checks
from mmseg_cil.testing.method_checks import check_losses, check_method, check_weights


@pytest.mark.slow
@pytest.mark.walk
def test_a_method_of_the_package_passes(tmp_path):
    check_method('mib', tmp_path)


@pytest.mark.slow
@pytest.mark.walk
def test_two_processes_that_do_not_learn_as_one_are_told(tmp_path):
    # The sum over a share of the batch is half of the sum over the batch.
    summed = dict(type='CrossEntropyLoss', reduction='sum', loss_weight=1e-4)
    with pytest.raises(AssertionError, match=r'processes: .*step 0, iteration 0: the loss is'):
        check_method(dict(name='summed', loss_decode=summed), tmp_path, checks=['processes'])


def test_two_processes_are_like_one_but_for_rounding():
    check_losses([2.0, 1.0], [2.000001, 1.0], step=1)
    with pytest.raises(AssertionError, match=r'step 1, iteration 1: the loss is 0.5 in two proc'):
        check_losses([2.0, 1.0], [2.0, 0.5], step=1)
    alone = dict(weight=torch.ones(3), bias=torch.zeros(2))
    check_weights(alone, dict(weight=alone['weight'] + 1e-6, bias=alone['bias'] + 1e-6), step=1)
    with pytest.raises(AssertionError, match=r'step 1: bias is another .* by 0.14'):
        check_weights(alone, dict(alone, bias=alone['bias'] + 0.1), step=1)


def test_all_that_fails_is_told(tmp_path, monkeypatch):
    def fail(cfg, folder):
        raise AssertionError(f'{cfg.method.name} is wrong')

    monkeypatch.setattr(method_checks, 'CHECKS', dict(first=fail, second=fail))
    with pytest.raises(AssertionError, match=r'first: .*mib is wrong\nsecond: .*mib is wrong'):
        check_method('mib', tmp_path)


class PlainMean(nn.Module):
    """Cross-entropy that is 0 / 0 on a batch without a labelled pixel."""

    loss_name = 'loss_plain'

    def __init__(self, loss_weight=1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits, labels, weight=None, ignore_index=255, **_):
        mean = nn.functional.cross_entropy(logits, labels, ignore_index=ignore_index)
        return self.loss_weight * mean


@pytest.mark.walk
def test_a_loss_that_fails_on_an_odd_batch_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'PlainMean', PlainMean)
    method = dict(name='plain', loss_decode=dict(type='PlainMean'))
    with pytest.raises(AssertionError, match=r'odd_batches: .*step 1, a batch of void alone'):
        check_method(method, tmp_path, checks=['odd_batches'])
