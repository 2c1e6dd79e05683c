"""A method as a typed object: its keys, what the segmentor is given of it, what is left out."""

import re
from dataclasses import fields

import pytest

from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.errors import InputError
from mmseg_cil.models.plain import INCREMENTAL_KEYS, plain_model_config

PARTS = dict(
    teacher_draw=2,
    distillers=[dict(type='X')],
    regularisers=[dict(type='Y')],
    self_supervision=dict(type='Z'),
    classifier_init='balanced',
    network_change=dict(type='W'),
)


def test_every_field_is_documented():
    described = set(re.findall(r'^        (\w+): ', MethodConfig.__doc__, re.M))
    assert described == {field.name for field in fields(MethodConfig)}


def test_the_segmentor_is_given_the_parts_with_a_role_under_their_keys():
    method = MethodConfig.from_config(dict(name='mine', memory=dict(budget=3), **PARTS))
    assert method.for_network() == PARTS and list(method.for_network()) == list(PARTS)
    found, rest = MethodConfig.split({**PARTS, 'backbone': 1})
    assert found == MethodConfig(**PARTS) and rest == dict(backbone=1)


def test_what_nobody_says_is_what_the_segmentor_does_without():
    empty = MethodConfig.from_config(dict(name='none', distillers=None))
    assert empty == MethodConfig(name='none') and empty.distillers == ()
    assert MethodConfig.split({})[0].for_network() == empty.for_network()


def test_a_plain_network_has_no_part_of_a_method():
    assert set(PARTS) < set(INCREMENTAL_KEYS)
    model = dict(
        type='IncrementalEncoderDecoder', backbone={}, decode_head=dict(type='FCNHead'), **PARTS
    )
    assert not set(plain_model_config(model, 3)) & set(INCREMENTAL_KEYS)


def test_parts_are_left_out_by_their_role():
    assert MethodConfig.without('change') == dict(self_supervision=None, network_change=None)
    assert MethodConfig.without('weights', 'teaching') == dict(
        teacher_draw=None, distillers=[], regularisers=[]
    )


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(distilers=[]), "did you mean 'distillers'"),
        (dict(anything=1), 'consists of .*sub_steps'),
        (dict(sub_steps=dict(type='X')), 'sub_steps must be a list'),
        (dict(teachers='some'), "teachers must be 'all'"),
    ],
)
def test_wrong_keys_and_values_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        MethodConfig.from_config(dict(name='mine', **changes))
