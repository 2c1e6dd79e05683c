"""Growing heads with further classifiers, and telling which heads cannot."""

import copy
import math

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.models.decode_heads import FCNHead

from mmseg_cil.contracts import ClassifierInit
from mmseg_cil.engine.preflight.model import check_growth, check_model
from mmseg_cil.errors import InputError
from mmseg_cil.models.growth import OldRows, grow_state, what_cannot_grow
from mmseg_cil.models.heads import classifier_key, main_classifier, main_head
from mmseg_cil.models.plain import plain_model_config
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.networks import (
    NORM,
    UNKD,
    base_step,
    batch,
    network,
    next_step,
    snapshot,
)

LOSS = dict(type='UnbiasedCrossEntropyLoss')
DEEP = dict(
    in_channels=64, in_index=3, channels=12, num_classes=19, norm_cfg=NORM, loss_decode=LOSS
)
DUAL = dict(DEEP, type='DAHead', pam_channels=4)
ENCODED = dict(DEEP, type='EncHead', in_channels=(32, 64), in_index=(2, 3), num_codes=4)
KNET = dict(
    type='IterativeDecodeHead',
    num_stages=1,
    kernel_generate_head=dict(DEEP, type='FCNHead', num_convs=1),
    kernel_update_head=[
        dict(
            type='KernelUpdateHead',
            num_classes=19,
            num_heads=2,
            num_mask_fcs=1,
            in_channels=12,
            feedforward_channels=16,
            out_channels=12,
            conv_kernel_size=1,
            dropout=0.0,
            ffn_act_cfg=dict(type='ReLU', inplace=True),
            with_ffn=True,
            kernel_updator_cfg=dict(
                type='KernelUpdator',
                in_channels=12,
                feat_channels=12,
                out_channels=12,
                act_cfg=dict(type='ReLU', inplace=True),
                norm_cfg=dict(type='LN'),
            ),
        )
    ],
)
BOUNDARY = dict(
    type='STDCHead',
    in_channels=8,
    in_index=0,
    channels=4,
    num_convs=1,
    num_classes=2,
    concat_input=False,
    norm_cfg=NORM,
    loss_decode=[
        dict(type='CrossEntropyLoss', loss_name='loss_ce', use_sigmoid=True),
        dict(type='DiceLoss', loss_name='loss_dice'),
    ],
)
SEGMENTER = dict(
    type='SegmenterMaskTransformerHead',
    in_channels=64,
    channels=12,
    num_classes=19,
    num_layers=1,
    num_heads=1,
    embed_dims=12,
    loss_decode=LOSS,
)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_cil')


def cascade():
    config = network()
    first = dict(DEEP, type='FCNHead', num_convs=1, loss_decode=dict(LOSS, loss_weight=0.4))
    config.update(
        type='CascadeEncoderDecoder',
        num_stages=2,
        decode_head=[first, dict(DEEP, type='OCRHead', ocr_channels=4)],
    )
    return config


def with_head(head):
    return dict(network(), decode_head=copy.deepcopy(head))


def grown(config, tmp_path, **arguments):
    """A network of three classes, and the same of five after it."""
    # The fixtures set the classes of plain heads alone.
    own = {'decode_head': copy.deepcopy(config['decode_head'])}
    path = tmp_path / 'step.pth'
    first = base_step(dict(config, **copy.deepcopy(own)), path)
    return first, next_step(dict(config, **own), path, **arguments), path


@pytest.mark.parametrize(
    ('head', 'layers'),
    [
        (DUAL, ('conv_seg', 'pam_conv_seg', 'cam_conv_seg')),
        (ENCODED, ('conv_seg', 'se_layer')),
    ],
    ids=['DAHead', 'EncHead'],
)
def test_every_classifier_of_a_head_grows_as_the_method_says(head, layers, tmp_path):
    first, second, _ = grown(with_head(head), tmp_path, classifier_init='balanced')
    for name in layers:
        old, new = (getattr(model.decode_head, name) for model in (first, second))
        assert torch.equal(new.weight[1:3], old.weight[1:])
        assert torch.equal(new.weight[3:], old.weight[:1].expand_as(new.weight[3:]))
        expected = old.bias[0] - math.log(3)
        torch.testing.assert_close(new.bias[[0, 3, 4]], expected.expand(3))
        assert torch.equal(new.bias[1:3], old.bias[1:])


@pytest.mark.parametrize(
    'head', [DUAL, ENCODED, dict(DEEP, type='FCNHead')], ids=['DAHead', 'EncHead', 'FCNHead']
)
def test_the_step_begins_with_the_function_of_the_last_one(head, tmp_path):
    first, second, _ = grown(with_head(head), tmp_path, classifier_init='random')
    images, _ = batch(3)
    for network_ in (first, second):
        network_.eval()
    with torch.no_grad():
        old, new = (model.predict(images)[0].seg_logits.data for model in (first, second))
    torch.testing.assert_close(new[:3], old)


@pytest.mark.parametrize(
    ('head', 'losses'),
    [
        (DUAL, {'decode.pam_cam.loss_unce', 'decode.pam.loss_unce', 'decode.cam.loss_unce'}),
        (ENCODED, {'decode.loss_unce', 'decode.loss_se'}),
    ],
    ids=['DAHead', 'EncHead'],
)
def test_heads_with_losses_of_their_own_learn_and_are_distilled(head, losses, tmp_path):
    _, model, _ = grown(with_head(head), tmp_path)
    model.train()
    found = model.loss(*batch(5))
    assert losses | {'distill.loss_unkd'} <= found.keys()
    sum(value for name, value in found.items() if 'loss' in name).backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for name, parameter in model.decode_head.named_parameters()
        if 'seg' in name
    )


def test_plain_mmsegmentation_reads_what_grew(tmp_path):
    for head in (DUAL, ENCODED):
        _, model, _ = grown(with_head(head), tmp_path)
        plain = MODELS.build(plain_model_config(with_head(head), 5))
        missing, extra = plain.load_state_dict(
            {
                key: value
                for key, value in model.state_dict().items()
                if not key.startswith('distillers')
            },
            strict=True,
        )
        assert not missing and not extra


def test_a_cascade_grows_and_its_last_head_is_distilled(tmp_path):
    config = cascade()
    path = tmp_path / 'step.pth'
    models = []
    for counts, others in (
        ([3], {}),
        ([3, 2], dict(previous=snapshot(path, 3), teacher=snapshot(path, 3), distillers=[UNKD])),
    ):
        own = copy.deepcopy(config)
        for head in own['decode_head']:
            head['num_classes'] = sum(counts)
        own.update(
            type='IncrementalCascadeEncoderDecoder',
            step=dict(
                index=len(counts) - 1,
                class_steps=[k for k, n in enumerate(counts) for _ in range(n)],
                has_background=True,
                old_labels_hidden=True,
            ),
            **others,
        )
        own.pop('auxiliary_head')
        torch.manual_seed(0)
        model = MODELS.build(own)
        model.init_weights()
        if not models:
            torch.save(dict(state_dict=model.state_dict(), meta={}), path)
        models.append(model)
    first, second = models
    assert main_head(second)[0] == 'decode_head.1'
    assert main_classifier(second)[0] == 'decode_head.1.conv_seg'
    assert classifier_key(second.state_dict()) == 'decode_head.1.conv_seg.weight'
    for i in range(2):
        assert torch.equal(
            second.decode_head[i].conv_seg.weight[:3], first.decode_head[i].conv_seg.weight
        )
    assert second.teacher.network.decode_head[1].conv_seg.out_channels == 3
    found = second.train().loss(*batch(5))
    assert {'decode_0.loss_unce', 'decode_1.loss_unce', 'distill.loss_unkd'} <= found.keys()
    # The teacher is what the last step was, and its last head teaches.
    images, _ = batch(5)
    record = second.teacher(images)
    with torch.no_grad():
        features = first.eval().extract_feat(images)
        coarse = first.decode_head[0].forward(features)
        expected = first.decode_head[1].forward(features, coarse)
    torch.testing.assert_close(record.logits, expected)


def test_k_net_grows_by_its_first_part_and_hands_on_its_last_stage(tmp_path):
    assert what_cannot_grow(KNET) == []
    config = with_head(KNET)
    own = plain_model_config(config, 3)['decode_head']
    assert own['kernel_generate_head']['num_classes'] == 3
    assert own['kernel_update_head'][0]['num_classes'] == 3
    assert 'num_classes' not in own and 'loss_decode' not in own
    plain = MODELS.build(plain_model_config(config, 3))
    path = tmp_path / 'step.pth'
    torch.save(dict(state_dict=plain.state_dict(), meta={}), path)
    step = dict(index=1, class_steps=[0, 0, 0, 1], has_background=True, old_labels_hidden=True)
    grown_config = plain_model_config(config, 4)
    grown_config['decode_head']['kernel_generate_head']['loss_decode'] = LOSS
    model = MODELS.build(
        dict(
            grown_config,
            type='IncrementalEncoderDecoder',
            step=step,
            previous=snapshot(path, 3),
            teacher=snapshot(path, 3),
            distillers=[UNKD],
            classifier_init='balanced',
        )
    )
    model.init_weights()
    assert main_classifier(model)[0] == 'decode_head.kernel_generate_head.conv_seg'
    assert torch.equal(
        model.decode_head.kernel_generate_head.conv_seg.weight[:3],
        plain.decode_head.kernel_generate_head.conv_seg.weight,
    )
    found = model.train().loss(*batch(4))
    assert {'decode.loss_unce.s0', 'decode.loss_unce.s1', 'distill.loss_unkd'} <= found.keys()
    images, _ = batch(4)
    with torch.no_grad():
        expected = plain.eval().decode_head.forward(plain.extract_feat(images))
    torch.testing.assert_close(model.teacher(images).logits, expected)


def test_a_head_with_a_target_of_its_own_neither_grows_nor_changes(tmp_path):
    config = network()
    config['auxiliary_head'] = [copy.deepcopy(BOUNDARY), dict(DEEP, type='FCNHead', num_convs=1)]
    plain = plain_model_config(config, 5)
    assert plain['auxiliary_head'][0] == BOUNDARY
    assert plain['auxiliary_head'][1]['num_classes'] == 5
    path = tmp_path / 'step.pth'

    def build(counts, **arguments):
        own = copy.deepcopy(config)
        model_config = plain_model_config(own, sum(counts))
        for head in (model_config['decode_head'], model_config['auxiliary_head'][1]):
            head['loss_decode'] = LOSS
        torch.manual_seed(0)
        model = MODELS.build(
            dict(
                model_config,
                type='IncrementalEncoderDecoder',
                step=dict(
                    index=len(counts) - 1,
                    has_background=True,
                    old_labels_hidden=True,
                    class_steps=[k for k, n in enumerate(counts) for _ in range(n)],
                ),
                **arguments,
            )
        )
        model.init_weights()
        return model

    first = build([3])
    torch.save(dict(state_dict=first.state_dict(), meta={}), path)
    second = build([3, 2], previous=snapshot(path, 3), teacher=snapshot(path, 3), distillers=[UNKD])
    assert set(second.heads) == {'decode_head', 'auxiliary_head.1'}
    assert second.auxiliary_head[0].conv_seg.out_channels == BOUNDARY['num_classes']
    for name, value in first.auxiliary_head[0].state_dict().items():
        assert torch.equal(second.auxiliary_head[0].state_dict()[name], value)
    images, samples = batch(5)
    second.train()
    torch.manual_seed(3)
    found = second.loss(images, samples)
    assert {'aux_0.loss_ce', 'aux_0.loss_dice', 'aux_1.loss_unce'} <= found.keys()


@pytest.mark.parametrize(
    ('head', 'stuck'),
    [
        (SEGMENTER, ['cls_emb', 'mask_norm.bias', 'mask_norm.weight']),
        (DUAL, []),
        (ENCODED, []),
        (dict(DEEP, type='FCNHead'), []),
        (BOUNDARY, []),
    ],
)
def test_what_depends_on_the_classes_and_does_not_grow(head, stuck):
    assert what_cannot_grow(head) == stuck


def test_a_head_that_cannot_grow_is_named_with_others_that_can():
    with pytest.raises(
        InputError,
        match=r'model.decode_head \(SegmenterMaskTransformerHead\).*'
        r'cls_emb.*ASPPHead',
    ):
        check_growth(with_head(SEGMENTER))
    check_growth(with_head(DUAL))


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (
            with_head(SEGMENTER),
            'model.decode_head: SegmenterMaskTransformerHead cannot grow.*FCNHead',
        ),
        (with_head(dict(type='MaskFormerHead')), 'MaskFormerHead cannot grow.*ASPPHead'),
        (with_head(dict(type='mmseg.Mask2FormerHead')), 'Mask2FormerHead cannot grow'),
        (with_head(dict(type='VPDDepthHead')), 'VPDDepthHead.*depths'),
        (
            dict(type='MultimodalEncoderDecoder'),
            "'MultimodalEncoderDecoder'.*text encoder.*use model",
        ),
        (dict(type='SegTTAModel'), 'tta_model'),
        (dict(type='DepthEstimator'), 'depths'),
        (dict(type='MyOwn'), "model.type is 'MyOwn'"),
        ({}, 'model.type is None'),
    ],
)
def test_kinds_that_do_not_grow_are_refused_in_one_sentence(model, message):
    with pytest.raises(InputError, match=message):
        check_model(model)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(ignore_index=0), 'model.decode_head.ignore_index is 0'),
        (dict(ignore_index=None), 'model.decode_head.ignore_index is None'),
        (
            dict(loss_decode=dict(type='TverskyLoss', ignore_index=0)),
            'model.decode_head.loss_decode.ignore_index is 0',
        ),
        (
            dict(
                loss_decode=[
                    dict(type='CrossEntropyLoss'),
                    dict(type='OhemCrossEntropy', ignore_label=254),
                ]
            ),
            r'model.decode_head.loss_decode.1.ignore_label is 254',
        ),
    ],
)
def test_labels_are_ignored_by_the_number_255_alone(changes, message):
    with pytest.raises(InputError, match=message):
        check_model(network(**changes))
    config = network()
    config['auxiliary_head'] = [copy.deepcopy(config['decode_head'])]
    config['auxiliary_head'][0].update(changes)
    with pytest.raises(InputError, match=message.replace('decode_head', 'auxiliary_head.0', 1)):
        check_model(config)


def test_two_losses_that_teach_one_output_opposite_things_are_refused():
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, 2:4] = 1
    slopes = {}
    for loss in BOUNDARY['loss_decode']:
        score = torch.zeros(1, 1, 8, 8, requires_grad=True)
        MODELS.build(dict(loss))(score, labels, ignore_index=255).backward()
        slopes[loss['type']] = score.grad[0, 0, 2, 0].item()
    # The reason: at a boundary one raises the output, the other lowers it.
    assert slopes['CrossEntropyLoss'] < 0 < slopes['DiceLoss']

    for key in ('num_classes', 'out_channels'):
        config = dict(network(), auxiliary_head=[dict(BOUNDARY, **{key: 1})])
        with pytest.raises(InputError, match=r'auxiliary_head\.0: a STDCHead of one output.*=2'):
            check_model(config)
    check_model(dict(network(), auxiliary_head=[BOUNDARY]))
    alone = dict(BOUNDARY, num_classes=1, loss_decode=BOUNDARY['loss_decode'][0])
    check_model(dict(network(), auxiliary_head=alone))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(norm_cfg=dict(type='BNX')), r"decode_head.norm_cfg.type: .* 'BNX'; did you mean BN"),
        (dict(act_cfg=dict(type='RELU')), r"decode_head.act_cfg.type: there is no .*'RELU'"),
        (dict(conv_cfg=dict(type='Conv2D')), r"decode_head.conv_cfg.type: .*'Conv2D'"),
        (dict(norm_cfg=dict(type=None)), r'decode_head.norm_cfg.type has no type'),
    ],
)
def test_kinds_of_layers_that_nobody_knows_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        check_model(network(**changes))
    check_model(network(norm_cfg=dict(type='SyncBN'), act_cfg=dict(type='GELU'), conv_cfg=None))


def test_dice_may_leave_out_a_class():
    check_model(network(loss_decode=dict(type='DiceLoss', ignore_index=0)))


def test_a_cascade_and_our_own_forms_are_models_of_a_walk():
    for kind in ('EncoderDecoder', 'mmseg.EncoderDecoder', 'IncrementalEncoderDecoder'):
        check_model(dict(network(), type=kind))
    for kind in ('CascadeEncoderDecoder', 'IncrementalCascadeEncoderDecoder'):
        check_model(dict(cascade(), type=kind))


def test_self_supervision_is_refused_where_logits_are_read_as_one_a_class():
    config = plain_model_config(with_head(KNET), 3)
    config['decode_head']['kernel_generate_head']['loss_decode'] = LOSS
    step = dict(index=0, class_steps=[0] * 3, has_background=True, old_labels_hidden=True)
    with pytest.raises(InputError, match=r'RotationSelfSupervision.*IterativeDecodeHead'):
        MODELS.build(
            dict(
                config,
                type='IncrementalEncoderDecoder',
                step=step,
                self_supervision=dict(type='RotationSelfSupervision'),
            )
        )


class Prototypes(FCNHead):
    """A head with a parameter for each class that is no layer's."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.prototypes = torch.nn.Parameter(torch.zeros(self.num_classes, 4))


def test_a_users_head_is_asked_what_grows():
    head = dict(DEEP, type=Prototypes, num_convs=1)
    assert what_cannot_grow(head) == ['prototypes']
    config = with_head(dict(DEEP, type='FCNHead'))
    config['auxiliary_head'] = [head]
    with pytest.raises(
        InputError,
        match=r'model.auxiliary_head.0 \(Prototypes\).*prototypes.*'
        r'own_target',
    ):
        check_growth(config)
    Prototypes.own_target = True
    try:
        check_growth(config)
    finally:
        del Prototypes.own_target


@pytest.mark.parametrize(
    ('losses', 'message'),
    [
        ('CrossEntropyLoss', "loss_decode is 'CrossEntropyLoss'; it must be a dict"),
        ([dict(type='CrossEntropyLoss'), dict(loss_weight=1.0)], 'loss_decode.1 is'),
        (dict(loss_weight=1.0), 'loss_decode is .*must be a dict with the type'),
        ([None], 'loss_decode.0 is None'),
    ],
)
def test_what_is_no_loss_is_named(losses, message):
    with pytest.raises(InputError, match=f'model.decode_head.{message}'):
        check_model(network(loss_decode=losses))


def test_an_initialisation_may_differ_by_layer(tmp_path):
    class OfLayer(ClassifierInit):
        """New rows of ones in the decode head, of zeros elsewhere."""

        def __init__(self, value=2.0):
            self.value = value

        def of_layer(self, name):
            return OfLayer(float(name == 'decode_head.conv_seg'))

        def __call__(self, weight, bias, fresh_weight, fresh_bias):
            fresh_weight = torch.full_like(fresh_weight, self.value)
            return super().__call__(weight, bias, fresh_weight, fresh_bias)

    config = network('FCNHead', 'single')
    base_step(config, tmp_path / 'base.pth')
    model = next_step(config, tmp_path / 'base.pth', distillers=())
    state = model.previous_state()
    grow_state(state, model.heads, 3, OfLayer())
    for head, value in (('decode_head', 1.0), ('auxiliary_head', 0.0)):
        assert torch.all(state[f'{head}.conv_seg.weight'][3:] == value)
    # The old rows alone are those of each layer, too.
    again = model.previous_state()
    grow_state(again, model.heads, 3, OldRows(OfLayer()))
    for key, rows in again.items():
        if 'conv_seg' in key:
            assert len(rows) == 5 and torch.equal(rows[:3], state[key][:3])
