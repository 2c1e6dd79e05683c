"""The papers' network: our parts against a plain statement of it, and RCIL's branches on it."""

import math

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.models.backbones import ResNet
from torch import nn
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.methods.rcil.parallel_branches import find_places
from mmseg_cil.models.network_output import tap_stages
from mmseg_cil.models.papers import LeakyResNet, PaperASPPHead
from mmseg_cil.registry import MODELS

BN = dict(type='BN', requires_grad=True)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_cil')


def head(**kwargs):
    torch.manual_seed(0)
    built = PaperASPPHead(
        **{
            **dict(in_channels=12, channels=8, dilations=(1, 2, 3, 4), num_classes=5, norm_cfg=BN),
            **kwargs,
        }
    )
    built.init_weights()
    return shaken(built).double()


def shaken(network):
    """With norms that do something."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network


class TheirHead(nn.Module):
    """The head as its paper's code builds it: one norm over all branches, two reductions."""

    def __init__(self, inside, wide, outside, dilations, classes, window):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(
                inside, wide, 1 if d == 1 else 3, dilation=d, padding=0 if d == 1 else d, bias=False
            )
            for d in dilations
        )
        self.branch_norm = nn.BatchNorm2d(wide * len(dilations))
        self.pool, self.pool_norm = nn.Conv2d(inside, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.reduce = nn.Conv2d(wide * len(dilations), outside, 1, bias=False)
        self.pool_reduce = nn.Conv2d(wide, outside, 1, bias=False)
        self.norm, self.classify = nn.BatchNorm2d(outside), nn.Conv2d(outside, classes, 1)
        self.window = window

    def take(self, ours):
        wide = self.pool.out_channels
        for conv, module in zip(self.branches, ours.aspp_modules, strict=True):
            conv.load_state_dict(module.conv.state_dict())
        norms = [module.bn.state_dict() for module in ours.aspp_modules]
        self.branch_norm.load_state_dict(
            {
                key: torch.cat([norm[key] for norm in norms]) if value.ndim else value
                for key, value in norms[0].items()
            }
        )
        self.pool.load_state_dict(ours.image_pool[1].conv.state_dict())
        self.pool_norm.load_state_dict(ours.image_pool[1].bn.state_dict())
        fuse = ours.bottleneck.conv.weight.data
        self.pool_reduce.weight.data.copy_(fuse[:, :wide])
        self.reduce.weight.data.copy_(fuse[:, wide:])
        self.norm.load_state_dict(ours.bottleneck.bn.state_dict())
        self.classify.load_state_dict(ours.conv_seg.state_dict())
        return self

    def forward(self, x):
        out = torch.cat([conv(x) for conv in self.branches], 1)
        out = self.reduce(functional.leaky_relu(self.branch_norm(out), 0.01))
        if self.training or self.window is None:
            pool = x.mean((2, 3), keepdim=True)
        else:
            pool = self.pooled_around(x)
        pool = functional.leaky_relu(self.pool_norm(self.pool(pool)), 0.01)
        out = self.norm(out + self.pool_reduce(pool))
        return self.classify(functional.leaky_relu(out, 0.01))

    def pooled_around(self, x):
        """The mean of the window around every place, moved inwards at the borders."""
        sides = [min(self.window, side) for side in x.shape[2:]]
        result = torch.empty_like(x)
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                top, left = (
                    min(max(place - (side - 1) // 2, 0), whole - side)
                    for place, side, whole in zip((row, column), sides, x.shape[2:], strict=True)
                )
                window = x[:, :, top : top + sides[0], left : left + sides[1]]
                result[:, :, row, column] = window.mean((2, 3))
        return result


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('window', [None, 5, 4, 9])
def test_the_head_is_theirs_in_values_and_gradients(training, window):
    ours = head(pooling_size=window)
    theirs = TheirHead(12, 8, 8, (1, 2, 3, 4), 5, window).double().take(ours)
    for network in (ours, theirs):
        network.train(training)
    features = torch.randn(3, 12, 7, 8, dtype=torch.float64)
    inputs = [features.clone().requires_grad_() for _ in range(2)]
    outputs = [ours([inputs[0]]), theirs(inputs[1])]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-12, atol=1e-12)
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(
        ours.bottleneck.conv.weight.grad,
        torch.cat([theirs.pool_reduce.weight.grad, theirs.reduce.weight.grad], 1),
        rtol=1e-11,
        atol=1e-11,
    )
    if training:  # their statistics too
        torch.testing.assert_close(
            torch.cat([branch.bn.running_var for branch in ours.aspp_modules]),
            theirs.branch_norm.running_var,
        )


def test_the_head_begins_as_theirs():
    built = head(in_channels=256, channels=256, num_classes=60)
    assert built.dropout is None
    bound = 1 / math.sqrt(256)
    rows = built.conv_seg.weight
    assert rows.abs().max() <= bound and built.conv_seg.bias.abs().max() <= bound
    assert rows.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    # Xavier: gain^2 * 2 / (inputs + outputs), of a 3x3 kernel nine times as many.
    for conv, fan in (
        (built.bottleneck.conv, 5 * 256 + 256),
        (built.aspp_modules[1].conv, 9 * 512),
    ):
        expected = math.sqrt(2 / (1 + 0.01**2)) * math.sqrt(2 / fan)
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.02)
    rcil = head(in_channels=256, channels=256, gain_slope=1.0)
    assert rcil.bottleneck.conv.weight.std().item() == pytest.approx(
        math.sqrt(2 / (6 * 256)), rel=0.02
    )


def test_a_given_initialisation_of_the_head_goes_before_theirs():
    torch.manual_seed(0)
    built = PaperASPPHead(
        in_channels=12,
        channels=8,
        num_classes=5,
        norm_cfg=BN,
        init_cfg=dict(type='Constant', layer='Conv2d', val=0.5),
    )
    built.init_weights()
    assert (built.conv_seg.weight == 0.5).all()


@pytest.mark.parametrize('window', [0, -1, (3,), (3, 0), 2.5])
def test_a_window_must_have_a_size(window):
    with pytest.raises((InputError, TypeError)):
        head(pooling_size=window)


def resnet(kind=LeakyResNet, **kwargs):
    torch.manual_seed(0)
    built = kind(
        **{
            **dict(
                depth=50,
                stem_channels=8,
                base_channels=8,
                strides=(1, 2, 2, 1),
                dilations=(1, 1, 1, 2),
                norm_cfg=BN,
            ),
            **kwargs,
        }
    )
    built.init_weights()
    built.eval()  # which MMSegmentation's does not return
    return shaken(built).double()


def their_backbone(network, x, slope, stem):
    """The backbone written out, from its convolutions and norms."""

    def act(values):
        return functional.leaky_relu(values, slope)

    x = network.norm1(network.conv1(x))
    x = functional.max_pool2d(act(x) if stem else x, 3, 2, 1)
    stages = []
    for name in network.res_layers:
        for block in getattr(network, name):
            inside = act(block.norm2(block.conv2(act(block.norm1(block.conv1(x))))))
            way = x if block.downsample is None else block.downsample(x)
            before = block.norm3(block.conv3(inside)) + way
            x = act(before)
        stages.append((before, x))
    return stages


@pytest.mark.parametrize('stem', [True, False])
def test_the_backbone_is_theirs(stem):
    ours = resnet(stem_activation=stem)
    images = torch.randn(2, 3, 33, 40, dtype=torch.float64)
    with tap_stages(ours) as before:
        outputs = ours(images)
    for ours_before, output, (expected_before, expected) in zip(
        before, outputs, their_backbone(ours, images, 0.01, stem), strict=True
    ):
        torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours_before, expected_before, rtol=1e-12, atol=1e-12)


def test_only_slope_and_stem_differ_from_the_plain_backbone():
    ours, plain = resnet(negative_slope=0.0), resnet(ResNet)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    for our, their in zip(ours(images), plain(images), strict=True):
        assert torch.equal(our, their)


def test_the_last_stage_is_dilated_throughout():
    assert [block.conv2.dilation[0] for block in resnet().layer4] == [2, 2, 2]
    assert [block.conv2.stride[0] for block in resnet().layer4] == [1, 1, 1]
    contracted = resnet(contract_dilation=True)
    assert [block.conv2.dilation[0] for block in contracted.layer4] == [1, 2, 2]


@pytest.mark.parametrize(
    'options',
    [
        dict(negative_slope=1.0),
        dict(negative_slope=-0.1),
        dict(stem_activation=False, deep_stem=True),
    ],
)
def test_a_backbone_that_makes_no_sense_is_refused(options):
    with pytest.raises(InputError):
        resnet(**options)


def test_branches_find_their_places_and_begin_as_the_head_does():
    network = nn.Module()
    network.backbone, network.decode_head = resnet(), head(in_channels=256)
    places = [place.name for place in find_places(network)]
    assert sum('backbone' in place for place in places) == 3 + 4 + 6 + 3
    assert [place for place in places if 'head' in place] == [
        f'decode_head.aspp_modules.{branch}.conv' for branch in range(4)
    ]
    change = MODELS.build(dict(type='ParallelBranches'))
    network.decode_head.gain_slope = 1e3  # recognisable: next to nothing
    change.install(network, learnt=False)
    change.begin(network, None)
    second = network.decode_head.aspp_modules[1].conv.second.conv.weight
    assert 0 < second.abs().max() < 1e-3
    assert network.backbone.layer1[0].conv2.second.conv.weight.abs().max() > 1e-2
    assert isinstance(network.decode_head.aspp_modules[1].activate, nn.LeakyReLU)
