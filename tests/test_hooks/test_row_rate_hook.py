"""New rows at another learning rate: the updates of an optimizer with that rate."""

from types import SimpleNamespace

import pytest
import torch

from mmseg_cil.errors import InputError
from mmseg_cil.hooks import RowRateHook
from mmseg_cil.testing.networks import network, segmentor


@pytest.mark.parametrize('optimizer', ['SGD', 'Adam'])
def test_new_rows_learn_at_their_own_rate(optimizer):
    models = []
    for factor in (1.0, 10.0):
        torch.manual_seed(0)
        model = segmentor(network(), [3, 2], teacher=None)
        hook = RowRateHook(factor)
        runner = SimpleNamespace(model=model)
        options = dict(momentum=0.9) if optimizer == 'SGD' else {}
        own = getattr(torch.optim, optimizer)(
            [dict(params=[model.decode_head.conv_seg.weight], lr=0.1 if factor == 1 else 0.01)],
            weight_decay=0.1,
            **options,
        )
        hook.before_train(runner)
        for gradient in (1.0, -2.0):
            model.decode_head.conv_seg.weight.grad = torch.full_like(
                model.decode_head.conv_seg.weight, gradient
            )
            hook.before_train_iter(runner, 0)
            own.step()
            hook.after_train_iter(runner, 0)
        models.append(model.decode_head.conv_seg.weight.detach())
    # Ten times the update at a tenth of the rate: for new rows the same, for old ones less.
    torch.testing.assert_close(models[1][3:], models[0][3:])
    assert not torch.allclose(models[1][:3], models[0][:3])


def test_at_the_first_step_no_row_is_new():
    hook = RowRateHook()
    hook.before_train(SimpleNamespace(model=segmentor(network(), [3])))
    assert hook._rows == []


def test_a_factor_that_is_not_above_0_is_refused():
    with pytest.raises(InputError, match='factor must be a number'):
        RowRateHook(0)
