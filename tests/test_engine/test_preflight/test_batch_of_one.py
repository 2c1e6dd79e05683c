"""One image a process: told before training where a norm cannot take it."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmseg.models.decode_heads import ASPPHead

from mmseg_cil.engine.preflight import batch_of_one
from mmseg_cil.engine.preflight.batch_of_one import (
    norm_without_variance,
    sees_several,
    training_size,
)
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.networks import HEADS, batch, network, segmentor
from mmseg_cil.testing.tiny import tiny_config

SYNC = dict(type='SyncBN', requires_grad=True)
GROUPS = dict(type='GN', num_groups=3, requires_grad=True)


class FrozenASPPHead(ASPPHead):
    """Its norms keep the statistics they have."""

    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        return self


if 'FrozenASPPHead' not in MODELS:
    MODELS.register_module(module=FrozenASPPHead)


def trains_on_one_image(model):
    try:
        model.train().loss(*batch(3, count=1))
    except ValueError as error:
        assert 'more than 1 value per channel' in str(error)
        return False
    return True


@pytest.mark.parametrize('head', HEADS)
def test_a_norm_is_named_where_training_would_fail(head):
    model = segmentor(network(head, auxiliary='single'), [3])
    state = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    name = norm_without_variance(model, (32, 32))
    # The network is only looked at.
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert (name is None) == trains_on_one_image(model)
    # SegFormer fails because of the size alone: the last of its four maps has one pixel.
    expected = {
        'ASPPHead': 'decode_head.image_pool.1.bn',
        'FCNHead': None,
        'SegformerHead': 'decode_head.convs.3.bn',
    }
    assert name == expected.get(head, name)
    assert head != 'SegformerHead' or norm_without_variance(model, (64, 64)) is None
    assert name is None or isinstance(model.get_submodule(name), torch.nn.BatchNorm2d)


def test_norms_that_need_no_batch_pass():
    frozen = network('ASPPHead')
    frozen['decode_head']['type'] = 'FrozenASPPHead'
    model = segmentor(frozen, [3])
    assert norm_without_variance(model, (32, 32)) is None and trains_on_one_image(model)
    grouped = network('ASPPHead')
    grouped['decode_head']['norm_cfg'] = GROUPS
    assert norm_without_variance(segmentor(grouped, [3]), (32, 32)) is None


def test_a_backbone_whose_norms_stay_in_evaluation_passes():
    config = network('FCNHead')
    # The last stages' maps are of one pixel, and so is the head's.
    name = norm_without_variance(segmentor(config, [3]), (16, 16))
    assert name == 'backbone.layer3.0.bn1'
    config['backbone']['norm_eval'] = True
    name = norm_without_variance(segmentor(config, [3]), (16, 16))
    assert name == 'decode_head.convs.0.bn'
    config['decode_head']['norm_cfg'] = GROUPS
    assert norm_without_variance(segmentor(config, [3]), (16, 16)) is None


def test_norms_over_all_processes_see_other_images(monkeypatch):
    config = network('ASPPHead')
    config['decode_head']['norm_cfg'] = SYNC
    # In a single process there are no others.
    model = segmentor(config, [3])
    assert norm_without_variance(model, (32, 32)) == 'decode_head.image_pool.1.bn'
    monkeypatch.setattr(batch_of_one, 'get_world_size', lambda: 2)
    assert norm_without_variance(model, (32, 32)) is None
    assert isinstance(model.get_submodule('decode_head.image_pool.1.bn'), torch.nn.SyncBatchNorm)
    plain = segmentor(network('ASPPHead'), [3])
    assert norm_without_variance(plain, (32, 32)) == 'decode_head.image_pool.1.bn'


def test_turned_and_generated_images_are_several():
    rotation = dict(type='RotationSelfSupervision')
    assert sees_several(dict(self_supervision=rotation), (8, 8))
    assert not sees_several(dict(self_supervision=dict(rotation, rotations='random')), (8, 8))
    assert sees_several(
        dict(replay=dict(type='GeneratedReplay'), previous=dict(num_classes=3)), (8, 8)
    )
    assert not sees_several(dict(replay=dict(type='GeneratedReplay'), previous=None), (8, 8))
    assert not sees_several({}, (8, 8))


def test_the_size_is_that_of_training(data_root):
    cfg = tiny_config(data_root)
    assert training_size(cfg) == (24, 24)
    cfg.model.data_preprocessor.pop('size')
    cfg.train_dataloader.dataset.pipeline[2].crop_size = (20, 28)
    assert training_size(cfg) == (20, 28)
    cfg.train_dataloader.dataset.pipeline.pop(2)
    assert training_size(cfg) == (256, 256)


def walk_of(data_root, head, images):
    cfg = tiny_config(data_root, 'finetune', global_batch_size=images)
    if head == 'ASPPHead':
        own = cfg.model.decode_head
        cfg.model.decode_head = Config(
            dict(
                type=head,
                in_channels=own.in_channels,
                in_index=own.in_index,
                channels=8,
                dilations=(1, 2),
                num_classes=2,
                norm_cfg=own.norm_cfg,
                loss_decode=own.loss_decode,
            )
        )._cfg_dict
    return cfg


@pytest.mark.parametrize(('head', 'images'), [('FCNHead', 1), ('ASPPHead', 2)])
def test_walks_that_can_train_begin(data_root, tmp_path, head, images):
    assert WalkRunner(walk_of(data_root, head, images), tmp_path).open().walk.trains(0)


def test_a_walk_of_aspp_with_one_image_is_refused_before_training(data_root, tmp_path):
    with pytest.raises(
        InputError,
        match=r'step 0 trains with one image a process, of which the '
        r'norm decode_head\.image_pool\.1\.bn \(BatchNorm2d\) sees a single value'
        r'.*global_batch_size=2.*GN.*norm_eval.*SyncBN',
    ):
        WalkRunner(walk_of(data_root, 'ASPPHead', 1), tmp_path / 'walk').prepare()
    assert not list((tmp_path / 'walk').glob('step_*'))
