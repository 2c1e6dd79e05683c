"""Cheaper forms of a teacher: their records are those of the plain teacher within stated bounds."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmseg_cil.contracts import Distiller, Needs, TeacherForm
from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.engine.config.compose import read_piece
from mmseg_cil.engine.config.method import OTHER_KEYS
from mmseg_cil.errors import InputError
from mmseg_cil.models.teacher import Teacher
from mmseg_cil.models.teacher_form import FormedNetwork, fold_norms
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.networks import (
    HEADS,
    NORM,
    base_step,
    batch,
    network,
    next_step,
    snapshot,
)

#: So small that training does not magnify what rounding does: at 1e-3, two students that differ
#: by 1e-6 differ by a tenth of the loss after 50 iterations.
LR = 1e-5
FORMS = {
    'fold_norms': (dict(fold_norms=True), 1e-4),
    'channels_last': (dict(channels_last=True), 1e-4),
    'both': (dict(fold_norms=True, channels_last=True), 1e-4),
    'bfloat16': (dict(fold_norms=True, channels_last=True, dtype='bfloat16'), 5e-2),
    'float16': (dict(dtype='float16'), 5e-2),
}
#: Small backbones of every kind, with their arguments.
BACKBONES = {
    'ResNet': dict(depth=50, base_channels=8, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    'ResNetV1c': dict(depth=18, base_channels=8, stem_channels=8),
    'ResNeXt': dict(depth=50, groups=4, base_width=4, base_channels=64),
    'ResNeSt': dict(depth=50, stem_channels=8, base_channels=16, reduction_factor=4),
    'LeakyResNet': dict(depth=18, base_channels=8, stem_activation=False),
    'MobileNetV2': dict(widen_factor=0.25),
    'MobileNetV3': dict(arch='small'),
    'STDCNet': dict(
        stdc_type='STDCNet1',
        in_channels=3,
        channels=(4, 8, 16, 32, 64),
        bottleneck_type='cat',
        num_convs=4,
        norm_cfg=NORM,
        act_cfg=dict(type='ReLU'),
    ),
    'HRNet': dict(
        extra=dict(
            stage1=dict(
                num_modules=1,
                num_branches=1,
                block='BOTTLENECK',
                num_blocks=(1,),
                num_channels=(8,),
            ),
            stage2=dict(
                num_modules=1,
                num_branches=2,
                block='BASIC',
                num_blocks=(1, 1),
                num_channels=(4, 8),
            ),
            stage3=dict(
                num_modules=1,
                num_branches=3,
                block='BASIC',
                num_blocks=(1, 1, 1),
                num_channels=(4, 8, 16),
            ),
            stage4=dict(
                num_modules=1,
                num_branches=4,
                block='BASIC',
                num_blocks=(1, 1, 1, 1),
                num_channels=(4, 8, 16, 32),
            ),
        )
    ),
    'UNet': dict(base_channels=4, num_stages=3, strides=(1, 1, 1), enc_num_convs=(1, 1, 1),
                 dec_num_convs=(1, 1), downsamples=(True, True), enc_dilations=(1, 1, 1),
                 dec_dilations=(1, 1)),
    'BiSeNetV2': dict(detail_channels=(4, 8, 16), semantic_channels=(4, 8, 8, 16),
                      bga_channels=16),
    'ERFNet': dict(),
    'PIDNet': dict(channels=4, ppm_channels=8, num_stem_blocks=1, num_branch_blocks=1),
    'DDRNet': dict(channels=4, ppm_channels=8),
    'SwinTransformer': dict(
        embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_size=4
    ),
    'MixVisionTransformer': dict(
        embed_dims=8, num_layers=[1] * 4, num_heads=[1] * 4, sr_ratios=[8, 4, 2, 1]
    ),
    **{
        name: dict(
            img_size=64, patch_size=16, embed_dims=16, num_layers=2, num_heads=2, out_indices=(0, 1)
        )
        for name in ('VisionTransformer', 'BEiT', 'MAE')
    },
    'MSCAN': dict(embed_dims=[8, 16, 16, 16], depths=[1] * 4, mlp_ratios=[2] * 4, norm_cfg=NORM),
    'PCPVT': dict(embed_dims=[8, 16, 16, 16], num_heads=[1] * 4, depths=[1] * 4,
                  mlp_ratios=[2] * 4, sr_ratios=[8, 4, 2, 1]),
    'SVT': dict(embed_dims=[8, 16, 16, 16], num_heads=[1] * 4, depths=[1] * 4,
                mlp_ratios=[2] * 4, sr_ratios=[4, 2, 1, 1], windiow_sizes=[4] * 4),
    'CGNet': dict(num_channels=(8, 16, 32), num_blocks=(2, 2), norm_cfg=NORM),
    'FastSCNN': dict(downsample_dw_channels=(8, 8), global_in_channels=16,
                     global_block_channels=(16, 16, 16), global_out_channels=16,
                     higher_in_channels=16, lower_in_channels=16, fusion_out_channels=16),
    'ICNet': dict(backbone_cfg=dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8,
                                    norm_cfg=NORM),
                  layer_channels=(16, 64), light_branch_middle_channels=8, psp_out_channels=16,
                  out_channels=(8, 16, 16), norm_cfg=NORM),
    'BiSeNetV1': dict(backbone_cfg=dict(type='ResNet', depth=18, base_channels=16, stem_channels=8,
                                        norm_cfg=NORM),
                      spatial_channels=(8, 8, 8, 32), context_channels=(32, 64, 128),
                      out_channels=64),
}  # fmt: skip


def liven(model):
    """Give norms statistics and parameters other than those that they begin with."""
    generator = torch.Generator().manual_seed(4)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            size = module.running_mean.shape
            module.running_mean = torch.randn(size, generator=generator) * 0.2
            module.running_var = torch.rand(size, generator=generator) + 0.5
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(module.bias, 0.0, 0.2, generator=generator)
    return model


@pytest.fixture
def taught(tmp_path):
    """Makes teachers of one snapshot, each in a form of its own."""

    def make(head='FCNHead', auxiliary='none'):
        config, path = network(head, auxiliary), tmp_path / 'step.pth'
        base = liven(base_step(config, path))
        torch.save(dict(state_dict=base.state_dict(), meta={}), path)
        return lambda **form: Teacher(
            config, str(path), num_classes=3, form=TeacherForm.from_config(form or None)
        )

    return make


def maps_of(record):
    return [
        *record.features,
        *record.pre_activations,
        record.embedding,
        record.logits,
        *record.auxiliary,
        record.classifier,
    ]


def assert_near(found, expected, bound):
    assert len(found) == len(expected)
    for own, plain in zip(found, expected, strict=True):
        assert own.dtype == plain.dtype and own.shape == plain.shape
        assert (own - plain).abs().max() <= bound * plain.abs().max()


@pytest.mark.parametrize('head', HEADS)
def test_records_are_those_of_the_plain_teacher(head, taught):
    teacher = taught(head, 'list')
    images, _ = batch(3, size=64)
    expected = maps_of(teacher()(images, True, True))
    for form, bound in FORMS.values():
        assert_near(maps_of(teacher(**form)(images, True, True)), expected, bound)


@pytest.mark.parametrize('name', BACKBONES)
def test_norms_of_every_kind_of_backbone_are_folded_or_left(name):
    init_default_scope('mmseg_cil')
    torch.manual_seed(0)
    plain = liven(MODELS.build(ConfigDict(type=name, **BACKBONES[name])))
    plain.eval()
    norms = sum(isinstance(module, _BatchNorm) for module in plain.modules())
    folded = copy.deepcopy(plain)
    count = fold_norms(folded)
    left = sum(isinstance(module, _BatchNorm) for module in folded.modules())
    assert left == norms - count
    # Every block of ERFNet calls its norms itself.
    assert count or not norms or name == 'ERFNet'
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = as_list(plain(images))
        for form in ('both', 'bfloat16', 'float16'):
            options, bound = FORMS[form]
            alone = nn.Module()
            alone.backbone, alone.decode_head = copy.deepcopy(plain), nn.Identity()
            formed = FormedNetwork(alone, TeacherForm.from_config(options))
            with formed.computing(images.device):
                found = as_list(alone.backbone(formed.arranged(images)))
            assert_near([output.float() for output in found], expected, bound)


def as_list(outputs):
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def test_all_norms_of_a_residual_network_are_folded(taught):
    network = taught('ASPPHead', 'single')(fold_norms=True).network
    assert not any(isinstance(module, _BatchNorm) for module in network.modules())


def test_a_layer_that_is_used_twice_is_left_alone():
    convolution, norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
    shared = nn.ModuleList(
        [nn.Sequential(convolution, norm), nn.Sequential(convolution, nn.BatchNorm2d(2))]
    ).eval()
    assert fold_norms(shared) == 0
    assert fold_norms(nn.Sequential(convolution, norm).eval()) == 1


def test_norms_that_do_not_follow_a_convolution_are_left():
    layers = nn.Sequential(
        nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)
    )
    training = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    batch_alone = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False))
    assert fold_norms(layers.eval()) == fold_norms(training.train()) == 0
    assert fold_norms(batch_alone.eval()) == 0


@pytest.mark.parametrize('head', ['FCNHead', 'SegformerHead'])
def test_weights_that_are_converted_once_change_nothing(head, taught):
    teacher, (images, _) = taught(head, 'single'), batch(3)
    plain, once = teacher(), teacher(dtype='run')
    for enabled in (True, False, True):
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            expected, found = (maps_of(each(images, True, True)) for each in (plain, once))
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        assert found[-3].dtype == (torch.bfloat16 if enabled else torch.float32)
    kept = plain.network.state_dict()
    assert all(torch.equal(value, kept[key]) for key, value in once.network.state_dict().items())


def test_a_number_format_of_its_own_is_that_of_mixed_precision(taught):
    teacher, (images, _) = taught(), batch(3)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = teacher()(images)
    own = teacher(dtype='bfloat16')
    record = own(images)
    assert record.logits.dtype == record.features[-1].dtype == torch.float32
    assert torch.equal(record.logits, mixed.logits.float())
    with torch.autocast('cpu', torch.bfloat16):
        assert own(images).logits.dtype == torch.bfloat16
    # Whole images, for hooks, are computed as ever.
    assert torch.equal(own.image_logits(images), teacher().image_logits(images))


@MODELS.register_module()
class FeaturesAlone(Distiller):
    """A distiller that reads the last map of features, or more than it says."""

    needs = Needs(teacher=True, outputs=False)

    def __init__(self, reads='features'):
        super().__init__()
        self.reads = reads

    def forward(self, batch):
        student, teacher = (
            getattr(record, self.reads) for record in (batch.student, batch.teacher)
        )
        return {'loss_far': (student[-1] - teacher[-1]).square().mean()}


@pytest.mark.parametrize('further', [False, True])
def test_heads_of_teachers_run_only_where_someone_reads_their_outputs(further, tmp_path):
    path, runs = tmp_path / 'step.pth', []
    config = network(auxiliary='single')
    base_step(config, path)
    unkd = dict(type='LogitDistiller', loss=dict(type='UnbiasedKnowledgeDistillationLoss'))
    listed = [dict(type='FeaturesAlone'), *([unkd] if further else [])]
    model = next_step(config, path, distillers=listed)
    with_heads = next_step(config, path, distillers=[dict(type='FeaturesAlone'), unkd])
    teacher = model.teacher.network
    teacher.decode_head.conv_seg.register_forward_hook(lambda *_: runs.append(1))
    images, samples = batch(5)
    losses = model.loss(images, samples)
    assert len(runs) == further
    assert torch.equal(
        losses['distill.loss_far'], with_heads.loss(images, samples)['distill.loss_far']
    )


def test_an_output_that_is_not_computed_is_told(tmp_path):
    path, config = tmp_path / 'step.pth', network()
    base_step(config, path)
    model = next_step(config, path, distillers=[dict(type='FeaturesAlone', reads='logits')])
    with pytest.raises(InputError, match=r'outputs=False'):
        model.teacher(batch(5)[0], outputs=False).logits.shape  # noqa: B018
    with pytest.raises((InputError, TypeError)):
        model.loss(*batch(5))


@pytest.mark.parametrize(
    ('form', 'message'),
    [
        ('fast', 'must be a dict'),
        (dict(fold_norm=True), "did you mean 'fold_norms'"),
        (dict(fold_norms=1), 'True or False'),
        (dict(dtype='int8'), 'must be one of'),
    ],
)
def test_wrong_forms_are_refused(form, message):
    with pytest.raises(InputError, match=message):
        MethodConfig.from_config(dict(name='mine', teacher_form=form))


def trained(path, **changes):
    """Losses of fifty iterations of MiB's second step."""
    settings = {**read_piece('method', 'mib')['method'], **changes}
    parts = MethodConfig.from_config(settings, OTHER_KEYS).for_network()
    config = network(loss='UnbiasedCrossEntropyLoss')
    base_step(config, path)
    model = next_step(config, path, **parts)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    result = []
    for iteration in range(50):
        loss, _ = model.parse_losses(model.loss(*batch(5, seed=iteration)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        result.append(loss.detach())
    return torch.stack(result)


def test_fifty_iterations_learn_the_same(tmp_path):
    plain = trained(tmp_path / 'step.pth')
    for form, bound in (FORMS['both'], FORMS['bfloat16']):
        found = trained(tmp_path / 'step.pth', teacher_form=form)
        assert not torch.equal(found, plain)
        torch.testing.assert_close(found, plain, rtol=bound, atol=0)


def test_a_snapshot_says_its_form(tmp_path):
    path, config = tmp_path / 'step.pth', network()
    base_step(config, path)
    form = dict(fold_norms=True)
    model = next_step(config, path, teacher_form=form, teachers={'step_00': snapshot(path, 3)})
    assert not any(isinstance(each, _BatchNorm) for each in model.teacher.network.modules())
    assert any(isinstance(each, _BatchNorm) for each in model.modules())
