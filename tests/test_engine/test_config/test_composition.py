"""Composing a config by names; that shipped configs are composed alike is tested with them."""

import argparse

import pytest
from mmengine.config import Config

from mmseg_cil.engine.commands import walk_config
from mmseg_cil.engine.config.compose import BASES, KINDS, complete, compose
from mmseg_cil.engine.config.method import memory_settings, method_of
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import ROOT

PLOP = ROOT / 'configs/plop/plop_deeplabv3_r101-d16_voc-15-1.py'


def composed(**pieces):
    return compose(pieces)


@pytest.mark.parametrize(
    ('protocol', 'dataset', 'model', 'schedule'),
    [
        ('voc_15-1', 'voc12aug', 'deeplabv3_r101-d16', 'voc'),
        ('voc_7-3', 'voc12aug', 'deeplabv3_r101-d16', 'voc'),
        ('voc_10-1', 'voc12aug', 'deeplabv3_r101-d16', 'voc_10-1_plop'),
        ('cityscapes_domain_11-5', 'cityscapes', 'deeplabv3_r101-d16', 'cityscapes'),
        ('embedded_11-5', 'embedded_shapes', 'fcn_r18-thin', 'demo'),
        ('voc_real_animals', 'voc_real_160', 'deeplabv3_r50-caffe', 'voc_real'),
    ],
)
def test_the_rest_follows_from_the_protocol(protocol, dataset, model, schedule):
    pieces = complete(dict(method='plop', protocol=protocol))
    assert [pieces[kind] for kind in ('dataset', 'model', 'schedule')] == [dataset, model, schedule]


@pytest.mark.parametrize(
    ('protocol', 'schedule'),
    [
        ('voc_15-1', 'voc_rcil'),
        ('ade20k_100-50', 'ade20k'),
        ('cityscapes_10-9', 'cityscapes_rcil'),
        ('cityscapes_domain_1-1', 'cityscapes_domain_rcil'),
        ('cityscapes_domain_11-1', 'cityscapes_domain_11-1_rcil'),
    ],
)
def test_the_nearest_schedule_of_a_method_is_taken(protocol, schedule):
    assert complete(dict(method='rcil', protocol=protocol))['schedule'] == schedule


@pytest.mark.parametrize('method', ['plop', 'plop_paper'])
def test_plop_takes_ten_epochs_at_later_steps_of_10_1(method):
    cfg = composed(method=method, protocol='voc_10-1')
    assert cfg.step_overrides['later'] == dict(lr=0.001, max_epochs=10)


def test_the_papers_schedule_of_a_method_is_not_taken_for_other_data():
    pieces = complete(dict(method='plop', protocol='voc_10-1', dataset='voc_real_160'))
    assert (pieces['model'], pieces['schedule']) == ('deeplabv3_r50-caffe', 'voc_real')


def test_a_protocol_needs_no_file():
    cfg = composed(method='mib', protocol='voc_7-3')
    assert cfg.protocol == dict(name='voc_7-3', setting='overlapped', preset='default')
    cfg = composed(method='mib', protocol='cityscapes_domain_5-4')
    assert cfg.protocol == dict(name='cityscapes_domain_5-4', split='clean', preset='default')
    cfg = composed(method='mib', protocol='embedded_7-7')
    assert cfg.protocol.dataset == 'embedded'


@pytest.mark.parametrize(
    ('pieces', 'message'),
    [
        (dict(), r'--method is missing.*plop'),
        (dict(method='mib'), '--protocol is missing'),
        (
            dict(method='mibb', protocol='voc_15-1'),
            r'--method mibb: .*There are .*mib, .*plop',
        ),
        (
            dict(method='mib', protocol='voc_30-1'),
            '--protocol voc_30-1.*30-1 does not fit.*voc_15-1',
        ),
        (dict(method='mib', protocol='vok_15-1'), "unknown protocol 'vok_15-1'"),
        (dict(method='mib', protocol='voc_15-1', model='vgg'), '--model vgg: .*segformer_b0'),
        (dict(method='mib', protocol='voc_15-1', schedule='long'), '--schedule long: .*short'),
        (dict(method='mib', protocol='voc_15-1', dataset='voc'), '--dataset voc: .*voc12aug'),
        (dict(method=str(BASES / 'models/fcn_r50.py'), protocol='voc_15-1'), 'sets no method'),
    ],
)
def test_wrong_names_are_told_with_the_right_ones(pieces, message):
    with pytest.raises(InputError, match=message):
        compose(pieces)


def test_the_padding_is_the_crop_of_the_dataset():
    cfg = composed(method='mib', protocol='voc_11-5', dataset='voc_real_160', model='segformer_b0')
    assert cfg.model.data_preprocessor.size == cfg.crop_size == (160, 160)


def test_a_piece_may_be_a_file_of_the_users(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text("method = dict(name='mine', classifier_init='imprinted')\n")
    cfg = composed(method=str(path), protocol='voc_15-1')
    assert cfg.method.name == 'mine'
    assert cfg.filename == 'mine_deeplabv3_r101-d16_voc-15-1.py'


def test_parts_of_a_config_are_replaced_whole():
    given = Config.fromfile(PLOP)
    cfg = compose(dict(method='mib'), given)
    theirs, ours = given.to_dict(), cfg.to_dict()
    assert [key for key in ours if ours[key] != theirs[key]] == ['method']
    assert 'custom_hooks' not in cfg.method and given.method.name == 'plop'
    assert cfg.filename == 'plop_deeplabv3_r101-d16_voc-15-1_mib.py'
    cfg = compose(dict(model='fcn_r18-thin', schedule='short', protocol='voc_7-3'), given)
    assert cfg.model.decode_head.type == 'FCNHead'
    assert cfg.model.data_preprocessor.size == (512, 512)
    assert cfg.step_overrides['later'] == dict(lr=0.01, max_iters=100)
    assert cfg.protocol.name == 'voc_7-3'
    assert cfg.method.to_dict() == method_of(given, 'voc_7-3')


def arguments(**given):
    defaults = {'config': None, 'cfg_options': {}, **dict.fromkeys(KINDS)}
    return argparse.Namespace(**{**defaults, **given})


def test_options_are_applied_last():
    cfg = walk_config(
        arguments(
            config='-',
            method='mib',
            protocol='voc_15-1',
            cfg_options={'protocol.setting': 'disjoint'},
        )
    )
    assert cfg.protocol.setting == 'disjoint'
    cfg = walk_config(arguments(config=str(PLOP), cfg_options={'method.classifier_init': 'random'}))
    assert cfg.method.classifier_init == 'random' and cfg.filename == str(PLOP)


@pytest.mark.parametrize(
    ('options', 'budget'),
    [
        ({}, 300),
        ({'method.memory.budget': 50}, 50),
        ({'method.memory.selection': 'random'}, 300),
        ({'method.memory': dict(budget=20)}, 20),
        ({'method.memory': None}, None),
    ],
)
def test_options_go_before_what_the_method_says_of_a_protocol(options, budget):
    given = arguments(config='-', method='icarl', protocol='ade20k_100-10', cfg_options=options)
    cfg = walk_config(given)
    settings = memory_settings(cfg, 'ade20k_100-10')
    assert (settings.budget if settings else None) == budget
    assert not {'by_protocol', 'protocol_overrides'} & set(walk_config(given).method)
