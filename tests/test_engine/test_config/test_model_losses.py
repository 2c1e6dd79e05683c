"""Losses of a user's heads are replaced, kept or cut to the classes of a step."""

import copy
import json

import numpy as np
import pytest
from mmengine.registry import init_default_scope

from mmseg_cil.engine.config.method import find_method
from mmseg_cil.engine.config.model_losses import (
    StepClasses,
    for_step,
    main_weight,
    with_method_losses,
)
from mmseg_cil.engine.preflight import model as preflight
from mmseg_cil.engine.preflight.model import tell_losses
from mmseg_cil.errors import InputError
from mmseg_cil.protocols import build_protocol
from mmseg_cil.testing.tiny import CLASSES, STEPS, tiny_config, tiny_model

METHOD = dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0)
CROSS = dict(type='CrossEntropyLoss', loss_weight=1.0)
DICE = dict(type='DiceLoss', loss_weight=3.0)
WEIGHTS = [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg_cil')


def classes_of(step, steps=STEPS, classes=CLASSES, **changes):
    protocol = build_protocol(dict(name='mine', dataset='mine', steps=steps, **changes), classes)
    return StepClasses.of(protocol, step)


def losses_at(head, main=1.0, losses=METHOD):
    return with_method_losses(dict(type='FCNHead', **head), losses, main)['loss_decode']


# Weights of classes.


def test_weights_are_those_of_the_steps_classes_in_the_order_of_the_outputs():
    steps = [['background', 'green'], ['grey', 'red'], ['blue']]
    found = [classes_of(step, steps).cut(WEIGHTS, 'x') for step in range(3)]
    assert found == [[0.1, 0.3], [0.1, 0.3, 0.5, 0.2], [0.1, 0.3, 0.5, 0.2, 0.4]]


def test_a_background_that_the_data_set_does_not_list_weighs_one():
    steps = [['b'], ['c', 'a']]
    for options in (dict(), dict(background='added')):
        classes = classes_of(1, steps, ('a', 'b', 'c'), **options)
        assert classes.cut([1.0, 2.0, 3.0], 'x') == [1.0, 2.0, 3.0, 1.0]
        assert classes.cut([0.5, 1.0, 2.0, 3.0], 'x') == [0.5, 2.0, 3.0, 1.0]


def test_with_reduce_zero_label_they_are_in_the_order_of_the_data_sets_names():
    protocol = build_protocol(
        dict(name='mine', dataset='mine', steps=[['b'], ['a']]), ('a', 'b'), True
    )
    assert StepClasses.of(protocol, 1).cut([7.0, 8.0], 'x') == [1.0, 8.0, 7.0]


def test_they_may_be_any_sequence_or_a_file(tmp_path):
    np.save(tmp_path / 'weights.npy', np.array(WEIGHTS))
    (tmp_path / 'weights.json').write_text(json.dumps(WEIGHTS))
    given = [
        WEIGHTS,
        tuple(WEIGHTS),
        np.array(WEIGHTS),
        str(tmp_path / 'weights.npy'),
        str(tmp_path / 'weights.json'),
    ]
    for values in given:
        assert classes_of(0).cut(values, 'x') == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ([1.0] * 3, 'has 3 values, and the data set has 5 classes'),
        ([1.0] * 6, 'has 6 values'),
        ([1.0, 2.0, 3.0, 4.0, float('nan')], 'finite'),
        ([1.0, 2.0, 3.0, 4.0, -1.0], '0 or more'),
        (['a'] * 5, 'no list of numbers'),
        ('missing.npy', 'missing.npy.*FileNotFoundError'),
        (2.0, 'no list of numbers'),
    ],
)
def test_wrong_weights_are_refused_by_their_key(values, message):
    head = dict(type='FCNHead', loss_decode=dict(CROSS, class_weight=values))
    with pytest.raises(InputError, match=f'model.x.loss_decode.class_weight.*{message}'):
        for_step(head, classes_of(0), 'model.x')


def test_all_losses_that_have_weights_are_cut():
    head = dict(
        type='EncHead',
        loss_decode=(
            dict(CROSS, class_weight=WEIGHTS),
            dict(type='LovaszLoss', class_weight=WEIGHTS),
            dict(type='FocalLoss', alpha=WEIGHTS, class_weight=None),
        ),
        loss_se_decode=dict(type='CrossEntropyLoss', use_sigmoid=True, class_weight=WEIGHTS),
    )
    found = for_step(head, classes_of(0), 'x')
    assert [loss.get('class_weight') for loss in found['loss_decode']] == [
        WEIGHTS[:3],
        WEIGHTS[:3],
        None,
    ]
    assert found['loss_decode'][2]['alpha'] == WEIGHTS[:3]
    assert found['loss_se_decode']['class_weight'] == WEIGHTS[:3]


def test_classes_named_by_their_number_get_that_of_their_output():
    classes = classes_of(0, [['background', 'green'], ['red'], ['blue', 'grey']])

    def at(loss):
        return for_step(dict(loss_decode=loss), classes, 'x')['loss_decode']

    assert at(dict(DICE, ignore_index=0))['ignore_index'] == 0
    assert at(dict(DICE, ignore_index=2))['ignore_index'] == 1
    assert at(dict(DICE, ignore_index=1))['ignore_index'] == 255
    assert at(dict(DICE, ignore_index=255))['ignore_index'] == 255
    lovasz = dict(type='LovaszLoss', reduction='none', loss_weight=2.0)
    assert at(dict(lovasz, classes=[2, 1]))['classes'] == [1]
    assert at(dict(lovasz, classes='all'))['classes'] == 'all'
    none = at(dict(lovasz, classes=[3, 4]))
    assert none['classes'] == 'present' and none['loss_weight'] == 0.0


# A method's own losses.


def test_losses_of_regions_stay_beside_the_methods():
    kept = dict(type='MergedBackgroundLoss', loss=DICE)
    assert losses_at(dict(loss_decode=[CROSS, DICE])) == [METHOD, kept]
    assert losses_at(dict(loss_decode=[DICE, CROSS])) == [METHOD, kept]
    assert losses_at(dict(loss_decode=(dict(CROSS, loss_weight=0.5), DICE))) == [
        dict(METHOD, loss_weight=0.5),
        kept,
    ]


def test_a_loss_of_regions_alone_stays_too():
    assert losses_at(dict(loss_decode=DICE), 3.0) == [
        METHOD,
        dict(type='MergedBackgroundLoss', loss=DICE),
    ]


@pytest.mark.parametrize(
    'own',
    [
        None,
        CROSS,
        [CROSS],
        dict(type='FocalLoss'),
        dict(type='OhemCrossEntropy'),
        dict(type='SiLogLoss'),
        dict(type='mmseg.CrossEntropyLoss'),
        dict(type='UnbiasedCrossEntropyLoss'),
    ],
)
def test_losses_of_pixels_are_replaced(own):
    assert losses_at({} if own is None else dict(loss_decode=own)) == METHOD


def test_a_users_own_loss_stays_beside_one_of_pixels():
    own = dict(type='SiLogLoss')
    assert losses_at(dict(loss_decode=[CROSS, own])) == [
        METHOD,
        dict(type='MergedBackgroundLoss', loss=own),
    ]


def test_heads_that_find_losses_by_their_place_keep_the_places():
    ohem, edge = (
        dict(type='OhemCrossEntropy', loss_weight=1.0),
        dict(type='BoundaryLoss', loss_weight=20.0),
    )
    head = dict(type='PIDHead', loss_decode=[dict(CROSS, loss_weight=0.4), ohem, edge, ohem])
    assert main_weight(dict(decode_head=head)) == 1.0
    found = with_method_losses(head, METHOD, 1.0)['loss_decode']
    assert found == [dict(METHOD, loss_weight=0.4), METHOD, edge, METHOD]
    several = with_method_losses(head, [METHOD, DICE], 1.0)['loss_decode']
    assert several[1] == dict(type='SummedLoss', losses=[METHOD, DICE])
    assert several[2] == edge


def test_the_weight_of_a_cascade_is_that_of_the_head_that_teachers_hand_on():
    light, full = (dict(CROSS, loss_weight=weight) for weight in (0.4, 2.0))
    heads = [dict(type='FCNHead', loss_decode=light), dict(type='OCRHead', loss_decode=full)]
    assert main_weight(dict(decode_head=heads)) == 2.0
    heads[1]['type'] = 'PointHead'
    assert main_weight(dict(decode_head=heads)) == 0.4


# Messages.


@pytest.fixture
def told(monkeypatch):
    """Collect the messages, one line each."""
    lines = []
    monkeypatch.setattr(preflight, 'print_log', lambda text, *where: lines.append(text))
    return lines


def said(told, model, method='mib', classes=None, **changes):
    for name in ('decode_head', 'auxiliary_head'):
        model[name] = {**model[name], **copy.deepcopy(changes)}
    cfg = tiny_config('nowhere', method)
    told.clear()
    tell_losses(model, find_method(cfg, 'tiny'), classes or classes_of(0))
    return '\n'.join(told)


def test_nothing_is_said_of_plain_cross_entropy(told):
    for method in ('finetune', 'mib', 'plop'):
        assert said(told, tiny_model(), method) == ''


def test_what_is_replaced_is_said_once_with_its_settings(told):
    text = said(
        told, tiny_model(), loss_decode=dict(CROSS, class_weight=WEIGHTS, avg_non_ignore=True)
    )
    assert len(told) == 1
    assert (
        'model.decode_head, model.auxiliary_head: method mib learns by '
        'UnbiasedCrossEntropyLoss in place of CrossEntropyLoss(class_weight=..., '
        'avg_non_ignore=True)' in text
    )


def test_what_is_kept_is_said(told):
    text = said(told, tiny_model(), loss_decode=[CROSS, DICE])
    assert 'DiceLoss stays beside the loss of method mib' in text and 'in place' not in text


def test_weights_that_are_cut_are_said(told):
    weighed = dict(loss_decode=dict(CROSS, class_weight=WEIGHTS))
    text = said(told, tiny_model(), 'finetune', **weighed)
    assert 'class_weight of CrossEntropyLoss: each step takes the weights of its own' in text
    assert 'does not list' not in text
    text = said(
        told, tiny_model(), 'finetune', classes_of(0, [['a']], ('a', 'b', 'c', 'd', 'e')), **weighed
    )
    assert 'that of a background that the data set does not list is 1' in text


def test_a_binary_head_is_said_to_get_an_output_for_each_class(told):
    text = said(
        told,
        tiny_model(),
        'finetune',
        out_channels=1,
        threshold=0.3,
        loss_decode=dict(CROSS, use_sigmoid=True),
    )
    assert 'out_channels=1' in text


def test_wrong_weights_are_refused_where_the_method_has_no_use_for_them(told):
    with pytest.raises(InputError, match=r'model.decode_head.loss_decode.1.class_weight has 2'):
        said(told, tiny_model(), loss_decode=[CROSS, dict(CROSS, class_weight=[1.0, 2.0])])
