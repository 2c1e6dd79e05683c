"""A step's config as lines that say what has set them."""

import doctest

import pytest
from mmengine.config import Config

from mmseg_cil.engine.commands import print_step_config
from mmseg_cil.engine.config import provenance
from mmseg_cil.engine.preflight.parts import expected_inputs
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.step_configs import evaluation_config, lone_config, training_config
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import tiny_config


@pytest.fixture
def printed(data_root, tmp_path, capsys):
    """Prints the config of step 1 of a MiB walk, and returns its lines by key."""
    cfg = tiny_config(data_root, 'mib')
    print_step_config(cfg, tmp_path / 'w', 1)
    assert not (tmp_path / 'w').exists()
    lines = [line for line in capsys.readouterr().out.splitlines() if '  # ' in line]
    pairs = [line.rpartition('  # ') for line in lines]
    return {
        text.partition(' = ')[0]: (text.partition(' = ')[2], source) for text, _, source in pairs
    }


def test_every_setting_of_the_step_is_printed(printed, data_root, tmp_path):
    walk = prepare_walk(tiny_config(data_root, 'mib'), tmp_path / 'w')
    config = training_config(walk, 1, expected_inputs(walk, 1))
    assert {key: text for key, (text, _) in printed.items()} == {
        key: repr(value) for key, value in provenance.leaves(config)
    }
    assert len(printed) > 100


def test_each_line_says_what_has_set_it(printed):
    assert printed['model.backbone.depth'][1] == 'config'
    assert printed['train_cfg.max_iters'] == ('4', 'step_overrides')
    assert printed['model.distillers.0.type'] == ("'LogitDistiller'", 'method')
    assert printed['model.decode_head.loss_decode.type'][1] == 'method'
    assert printed['model.teacher.num_classes'][1] == 'walk'
    assert printed['train_dataloader.sampler.type'] == ("'GlobalPositionSampler'", 'walk')


def test_a_step_that_the_walk_has_not_is_refused(data_root, tmp_path):
    with pytest.raises(InputError, match=r'--print-step-config 7: this walk has the steps 0\.\.2'):
        print_step_config(tiny_config(data_root), tmp_path, 7)


def test_only_training_has_what_trains(data_root, tmp_path):
    walk = prepare_walk(tiny_config(data_root, 'mib'), tmp_path / 'w')
    trained = training_config(walk, 1, expected_inputs(walk, 1))
    alone, scored = lone_config(walk, 1), evaluation_config(walk, 1)
    assert trained.model.teacher is not None and alone.model.get('teacher') is None
    assert alone.train_dataloader == trained.train_dataloader
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        assert trained[key] is not None and scored[key] is None
    assert scored.test_dataloader == trained.test_dataloader
    assert scored.val_cfg is None and alone.val_cfg is None


def test_weights_to_begin_with_are_those_of_step_0_and_of_no_evaluation(data_root, tmp_path):
    walk = prepare_walk(tiny_config(data_root, load_from='weights.pth'), tmp_path / 'w')
    assert lone_config(walk, 0).load_from == 'weights.pth'
    assert lone_config(walk, 1).load_from is None
    assert evaluation_config(walk, 0).load_from is None


def test_lists_of_numbers_are_one_value():
    config = Config(dict(a=dict(b=[1, 2], c=[dict(d=3)], e=(), f=None)))
    assert dict(provenance.leaves(config)) == {'a.b': [1, 2], 'a.c.0.d': 3, 'a.e': (), 'a.f': None}


def test_the_examples_are_right():
    assert doctest.testmod(provenance).attempted == 4
    assert doctest.testmod(provenance).failed == 0
