"""The config of a cell is composed once, written as plain values, and compared."""

import pytest
from mmengine.config import Config

from mmseg_cil.engine.config.comparison import differences
from mmseg_cil.engine.config.length import step_iterations
from mmseg_cil.engine.config.load import load_config
from mmseg_cil.errors import InputError
from mmseg_cil.grid.composition import cell_config, config_text, read_grid, read_text
from mmseg_cil.grid.plan import Cell, Setting, Variant
from mmseg_cil.protocols import build_protocol
from mmseg_cil.testing.tiny import CLASSES, tiny_config

TINY = Variant('tiny')


@pytest.fixture
def config(tmp_path):
    cfg = tiny_config('nowhere', grid=dict(methods=['mib']))
    path = tmp_path / 'config.py'
    path.write_text(cfg.pretty_text)
    return str(path)


def composed(config, method, options=(), protocol=TINY, **setting):
    cell = Cell(method, protocol, Setting('s', setting), 5)
    return cell_config(cell, config, {}, dict(options))


def test_later_settings_go_before_earlier_ones(config):
    method = Variant('v', 'vdfd', {'optim_wrapper.optimizer.lr': 0.3, 'global_batch_size': 6})
    cfg = composed(config, method, {'optim_wrapper.optimizer.lr': 0.2}, global_batch_size=8)
    assert cfg.method.name == 'vdfd' and cfg.randomness.seed == 5 and 'grid' not in cfg
    assert (cfg.optim_wrapper.optimizer.lr, cfg.global_batch_size) == (0.3, 8)


def test_the_length_of_joint_training_can_be_set(config):
    changed = Variant('joint', None, {'step_overrides.0.max_iters': 50}, reference=True)
    cfg = composed(config, changed)
    assert len(cfg.protocol.steps) == 1 and 'later' not in cfg.step_overrides
    protocol = build_protocol(cfg.protocol, CLASSES)
    assert step_iterations(cfg, protocol, [16], 4) == [50]


def test_without_a_file_the_parts_make_the_config():
    cell = Cell(Variant('mib', 'mib'), Variant('voc_15-1', 'voc_15-1'), Setting(), 1)
    cfg = cell_config(cell, None, {'schedule': 'short', 'model': 'fcn_r18-thin'}, {})
    assert cfg.protocol.name == 'voc_15-1' and cfg.randomness.seed == 1
    nothing = Cell(Variant('nothing_learnt', reference=True), cell.protocol, Setting(), 1)
    cfg = cell_config(nothing, None, {}, {'method.distillers.0.loss.loss_weight': 3})
    assert cfg.method == dict(name='nothing_learnt', classifier_init='unpredicted')
    assert cfg.step_overrides['later'] == dict(max_iters=0)
    joint = Cell(Variant('joint', reference=True), cell.protocol, Setting(), 1)
    assert cell_config(joint, None, {}, {}).protocol.name == 'voc_joint'


@pytest.mark.parametrize(
    ('key', 'told'),
    [
        ('optim_wraper.optimizer.lr', "did you mean 'optim_wrapper'"),
        ('optim_wrapper.optimiser.lr', "did you mean 'optimizer'"),
        ('method.distillers.7.loss.loss_weight', r'has no method\.distillers\.7'),
        ('nonsense', 'has no nonsense'),
    ],
)
def test_keys_that_nothing_reads_are_refused(config, key, told):
    with pytest.raises(InputError, match=told):
        composed(config, Variant('mib', 'mib'), **{key: 1})


def test_unknown_parts_are_refused(config):
    with pytest.raises(InputError, match='--method mibb'):
        composed(config, Variant('mibb', 'mibb'))
    with pytest.raises(InputError, match='--protocol voc_0-0'):
        composed(config, Variant('mib', 'mib'), protocol=Variant('voc_0-0', 'voc_0-0'))


def test_the_file_of_a_cell_is_its_config(config, tmp_path):
    cfg = composed(config, Variant('plop', 'plop'))
    path = tmp_path / 'cell.py'
    path.write_text(config_text(cfg))
    assert load_config(path).to_dict() == cfg.to_dict()
    assert differences(read_text(path), cfg.to_dict()) == []
    path.write_text('import os\n')
    with pytest.raises(InputError, match='is not as the grid has written it'):
        read_text(path)


def test_a_variable_of_the_file_makes_no_difference_to_the_config_that_was_written(tmp_path):
    # The written file says that the variable may be there; the composed config need not.
    cfg = tiny_config('nowhere', places=['place01'])
    path = tmp_path / 'config.py'
    path.write_text(cfg.pretty_text)
    now = composed(str(path), Variant('mib', 'mib'))
    written = tmp_path / 'cell.py'
    written.write_text(config_text(now))
    assert 'allow_unknown_keys' in read_text(written)
    assert differences(read_text(written), now.to_dict()) == []


def test_only_what_matters_to_results_makes_a_difference(config):
    cfg = composed(config, Variant('mib', 'mib'))
    other = Config(cfg.to_dict())
    other.merge_from_dict(
        {'train_dataloader.num_workers': 7, 'default_hooks.logger.interval': 9, 'log_level': 'INFO'}
    )
    assert differences(cfg.to_dict(), other.to_dict()) == []
    other.merge_from_dict({'method.distillers.0.loss.loss_weight': 3.0, 'load_from': 'x.pth'})
    assert differences(cfg.to_dict(), other.to_dict()) == [
        'load_from',
        'method.distillers.0.loss.loss_weight',
    ]


def test_a_grid_is_a_dict(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('grid = [1]\n')
    with pytest.raises(InputError, match='must be a dict'):
        read_grid(str(path))
    assert read_grid(None) == {}
