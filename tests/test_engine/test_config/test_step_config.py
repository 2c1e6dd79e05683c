"""The config of a step: losses of a method in the heads."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_cil.engine.config.method import find_method
from mmseg_cil.engine.config.step_config import StepInputs, model_of_step
from mmseg_cil.models.plain import plain_model_config
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.tiny import tiny_config

CONTEXT = dict(index=0, class_steps=[0, 0, 0], has_background=True, old_labels_hidden=True)
CROSS, DICE = dict(type='CrossEntropyLoss', loss_weight=1.0), dict(type='DiceLoss', loss_weight=3.0)


def model_config(data_root, loss, decode=CROSS, auxiliary=None):
    cfg = tiny_config(data_root, 'finetune')
    cfg.model.decode_head.loss_decode = copy.deepcopy(decode)
    if auxiliary is not None:
        cfg.model.auxiliary_head.loss_decode = copy.deepcopy(auxiliary)
    if loss is not None:
        cfg.method.loss_decode = copy.deepcopy(loss)
    return model_of_step(
        cfg.model, find_method(cfg, 'tiny'), CONTEXT, StepInputs(None, None, [8, 8, 8])
    )


def weights(losses):
    return [loss['loss_weight'] for loss in (losses if isinstance(losses, list) else [losses])]


@pytest.mark.parametrize(
    ('decode', 'auxiliary', 'share'),
    [
        (CROSS, dict(CROSS, loss_weight=0.4), 0.4),
        (dict(CROSS, loss_weight=2.0), dict(CROSS, loss_weight=0.4), 0.2),
        ([CROSS], [dict(CROSS, loss_weight=0.4)], 0.4),
        ([CROSS, CROSS], dict(CROSS, loss_weight=0.5), 0.25),
        (dict(type='CrossEntropyLoss'), dict(type='CrossEntropyLoss'), 1.0),
    ],
)
def test_a_methods_loss_keeps_its_weight_and_auxiliary_heads_their_share(
    data_root, decode, auxiliary, share
):
    method = dict(type='UnbiasedCrossEntropyLoss', loss_weight=2.0)
    model = model_config(data_root, method, decode, auxiliary)
    assert model['decode_head']['loss_decode'] == method
    found = model['auxiliary_head']['loss_decode']
    assert found['type'] == method['type'] and found['loss_weight'] == pytest.approx(2.0 * share)


def test_a_list_of_losses_of_a_method_is_scaled_one_by_one(data_root):
    model = model_config(data_root, [CROSS, DICE], auxiliary=dict(CROSS, loss_weight=0.5))
    assert weights(model['decode_head']['loss_decode']) == [1.0, 3.0]
    assert weights(model['auxiliary_head']['loss_decode']) == [0.5, 1.5]


def test_without_a_loss_of_the_method_the_heads_keep_theirs(data_root):
    model = model_config(data_root, None, decode=[CROSS, DICE])
    assert weights(model['decode_head']['loss_decode']) == [1.0, 3.0]


def test_a_list_of_one_loss_is_that_loss(data_root):
    init_default_scope('mmseg_cil')
    values = []
    for loss in (CROSS, [CROSS]):
        torch.manual_seed(0)
        network = MODELS.build(model_config(data_root, loss))
        network.init_weights()
        label = torch.randint(0, 3, (1, 24, 24))
        sample = SegDataSample(gt_sem_seg=PixelData(data=label))
        sample.set_metainfo(dict(img_shape=(24, 24)))
        values.append(network.loss(torch.randn(2, 3, 24, 24), [sample] * 2))
    for name, value in values[0].items():
        assert torch.equal(value, values[1][name]), name


def test_the_plain_network_of_a_list_has_their_sum(data_root):
    model = plain_model_config(model_config(data_root, None, decode=[CROSS, DICE]), 3)
    assert model['decode_head']['loss_decode']['loss_weight'] == 4.0
