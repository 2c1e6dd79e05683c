"""Misspelt settings are told with what they were meant to be; a config's variables are its own."""

import ast
import functools
from pathlib import Path

import mmseg
import pytest
from mmengine.config import Config

from mmseg_cil.engine.config.compose import compose
from mmseg_cil.engine.config.load import load_config
from mmseg_cil.engine.preflight import names
from mmseg_cil.engine.preflight.names import (
    MEANT,
    check_names,
    near,
    read_names,
    with_names_allowed,
    with_variables_allowed,
)
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.errors import InputError
from mmseg_cil.testing.tiny import tiny_config

STOCK = Path(mmseg.__file__).parent / '.mim/configs'


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(names, 'print_log', lambda text, *_: lines.append(text))
    return lines


@pytest.mark.parametrize(
    ('name', 'meant'),
    [
        ('optim_wraper', 'optim_wrapper'),
        ('step_override', 'step_overrides'),
        ('param_schedulers', 'param_scheduler'),
        ('global_batchsize', 'global_batch_size'),
        ('randomnes', 'randomness'),
        ('load_form', 'load_from'),
        ('mehtod', 'method'),
        ('modle', 'model'),
        ('train_data_loader', 'train_dataloader'),
        ('Model', 'model'),
        ('trainDataloader', 'train_dataloader'),
        ('custom_hook', 'custom_hooks'),
        ('visualiser', 'visualizer'),
        ('skip_empty_step', 'skip_empty_steps'),
        ('allow_unknown_key', 'allow_unknown_keys'),
        ('resum', 'resume'),
    ],
)
def test_misspelt_names_at_the_top(data_root, tmp_path, name, meant):
    cfg = tiny_config(data_root, **{name: dict(type='x')})
    with pytest.raises(InputError, match=f"sets '{name}'.*did you mean '{meant}'"):
        prepare_walk(cfg, tmp_path)
    check_names(Config(dict(cfg.to_dict(), allow_unknown_keys=[name])))
    check_names(Config(dict(cfg.to_dict(), allow_unknown_keys=True)))


@pytest.mark.parametrize(
    'name',
    [
        'model2',
        'model_b',
        'old_model',
        'optim_wrapper_adam',
        'train_dataset',
        'batch_size',
        'my_lr',
        'tta_cfg',
        'log_dir',
        'head',
        'optimizers',
    ],
)
def test_other_names_are_told_and_work(data_root, said, name):
    assert near(name, MEANT) is None
    check_names(tiny_config(data_root, **{name: 3}))
    assert len(said) == 1 and f'nothing reads: {name} (' in said[0]


def test_what_mmsegmentation_read_before_is_told_with_its_place_now(data_root, said):
    check_names(tiny_config(data_root, lr_config=dict(policy='poly'), seed=3))
    assert 'lr_config (param_scheduler took its place), seed (randomness.seed took' in said[0]


def test_variables_of_a_config_are_its_own(tmp_path, said):
    """Names that its files read, however like a setting they are, also in a base."""
    (tmp_path / 'base.py').write_text('models = dict(depth=50)\nmethods = 3\n')
    path = tmp_path / 'config.py'
    path.write_text(
        "_base_ = ['base.py']\n"
        "model_ = _base_.models\nmodel = dict(type='EncoderDecoder', backbone=model_)\n"
        'optim_wraper = dict(lr=0.1)\noptim_wrapper = dict(optimizer=optim_wraper)\n'
        "train_cfg = dict(max_iters='{{_base_.methods}}')\n"
    )
    cfg = load_config(path)
    assert cfg.optim_wrapper.optimizer.lr == 0.1
    check_names(cfg)
    assert said == [] and {'model_', 'models', 'optim_wraper'} <= read_names(str(path))
    # A copy that nothing reads any more says which are such.
    copy = tmp_path / 'copy.py'
    copy.write_text(with_names_allowed(cfg).pretty_text)
    check_names(load_config(copy))
    assert said == []
    path.write_text(path.read_text() + 'optim_wrappr = dict(lr=0.2)\n')
    with pytest.raises(InputError, match=r"'optim_wrappr'.*did you mean 'optim_wrapper'"):
        check_names(load_config(path))


def test_variables_stay_allowed_where_parts_are_replaced(tmp_path, said):
    path = tmp_path / 'config.py'
    path.write_text('common = dict(depth=50)\nunread = 1\nmodel = dict(backbone=common)\n')
    composed = compose(dict(method='mib'), with_variables_allowed(load_config(path)))
    assert Path(composed.filename).name == 'config_mib.py'
    check_names(composed)
    assert len(said) == 1 and 'nothing reads: unread (' in said[0]


def test_the_copy_of_a_config_without_variables_is_the_config(data_root):
    cfg = tiny_config(data_root)
    assert with_names_allowed(cfg) is cfg


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'randomness.sed': 3}, "randomness.sed is not known: did you mean 'seed'"),
        ({'randomness.determinstic': True}, "did you mean 'deterministic'"),
        ({'randomness.x': 1}, 'there are seed, diff_rank_seed, deterministic'),
        ({'env_cfg': dict(cudnn_benchmrk=True)}, "env_cfg.cudnn_benchmrk.*'cudnn_benchmark'"),
        ({'env_cfg': dict(mp_cfg=dict(opencv_threads=0))}, r'env_cfg\.mp_cfg\.opencv_threads'),
        ({'auto_scale_lr': dict(enabel=True)}, "auto_scale_lr.enabel.*'enable'"),
        ({'default_hooks.chekpoint': dict(type='CheckpointHook')}, "chekpoint.*'checkpoint'"),
        ({'default_hooks.loger': dict(type='LoggerHook')}, "loger.*'logger'"),
        ({'default_hooks.checkpoint.intervall': 3}, "checkpoint.intervall.*'interval'"),
        ({'step_overrides.1': {'max_iter': 3}}, "max_iter is not known: did you mean 'max_iters'"),
        (
            {'step_overrides.later': {'learning_rate': 3}},
            'learning_rate is not known: there are lr',
        ),
        (
            {'step_overrides.later': {'optim_wraper.optimizer.lr': 3}},
            "did you mean 'optim_wrapper'",
        ),
        ({'step_overrides.later': {'optim_wrapper.optimiser.lr': 3}}, "did you mean 'optimizer'"),
        ({'step_overrides.0': {'optim_wrapper.optimizer.weight_decya': 3}}, "'weight_decay'"),
        ({'step_overrides.0': {'param_scheduler.0.powr': 3}}, "did you mean 'power'"),
        ({'step_overrides.0': {'model.test_cfg.mod': 'slide'}}, "did you mean 'mode'"),
        ({'step_overrides.0': {'protocol.setting': 'x'}}, 'protocol holds for the whole walk'),
        ({'step_overrides.0': {'global_batch_size': 2}}, 'holds for the whole walk'),
        ({'method.distiller': []}, "unknown keys .'distiller'.: did you mean 'distillers'"),
        ({'method.classifier_inti': 'x'}, "did you mean 'classifier_init'"),
        ({'protocol.seting': 'x'}, "did you mean 'setting'"),
        ({'allow_unknown_keys': 'lr'}, "allow_unknown_keys is 'lr'; use True or a list"),
    ],
)
def test_misspelt_names_further_down(data_root, tmp_path, changes, message):
    cfg = tiny_config(data_root).to_dict()
    cfg['step_overrides'][1] = {}
    for key, value in changes.items():
        node = cfg
        *parents, last = key.split('.')
        for name in parents:
            node = node[int(name)] if name.isdigit() else node[name]
        target = node.get(int(last)) if last.isdigit() else node.get(last)
        target.update(value) if key.startswith('step_overrides') else node.update({last: value})
    with pytest.raises(InputError, match=message):
        prepare_walk(Config(cfg), tmp_path)


@pytest.mark.parametrize(
    'changes',
    [
        {'optim_wrapper.clip_grad': dict(max_norm=1.0)},
        {'randomness.deterministic': True},
        {'model.decode_head.concat_input': False, 'model.decode_head.sampler': None},
        {'param_scheduler': [dict(type='PolyLR', eta_min=0.0, begin=0, end=4, by_epoch=False)]},
        {'train_cfg.val_begin': 2},
        {'train_cfg.val_interval': 2},
        {'param_scheduler.0.last_step': -1},
        {'custom_hooks': []},
        {'test_dataloader.persistent_workers': False},
        {'env_cfg': {}},
    ],
)
def test_overrides_may_set_what_the_config_does_not(data_root, changes):
    cfg = tiny_config(data_root)
    cfg.step_overrides['later'].update(changes)
    check_names(cfg)


def test_a_key_may_be_allowed_where_it_stands(data_root):
    cfg = tiny_config(data_root, **{'default_hooks.loger': dict(type='LoggerHook')})
    cfg.allow_unknown_keys = ['default_hooks.loger']
    check_names(cfg)
    cfg.step_overrides['later']['my.key'] = 1
    cfg.allow_unknown_keys = ['default_hooks.loger', 'my.key']
    check_names(cfg)


def test_no_name_of_mmsegmentations_own_configs_is_refused_or_told(monkeypatch):
    """In every file, what it sets is known, or read by one of its files."""
    # Hundreds of configs have the same bases.
    monkeypatch.setattr(ast, 'parse', functools.cache(ast.parse))
    monkeypatch.setattr(ast, 'walk', functools.cache(lambda node, walk=ast.walk: tuple(walk(node))))
    files, strange = sorted(STOCK.rglob('*.py')), {}
    assert len(files) > 682
    for path in files:
        tree = ast.parse(path.read_text(encoding='utf-8'))
        given = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        unknown = given - {*MEANT, *names._VARIABLES, '_base_'} - read_names(str(path))
        if unknown:
            strange[path.name] = unknown
    # Three variables that are left over there are told, and none is like a setting.
    assert not {name for each in strange.values() for name in each if near(name, MEANT)}
    assert len(strange) <= 3, strange


@pytest.mark.slow
@pytest.mark.parametrize('place', range(0, 682, 45))
def test_stock_configs_pass_as_they_are_read(place, said):
    path = [file for file in sorted(STOCK.rglob('*.py')) if '_base_' not in file.parts][place]
    check_names(load_config(path))
    assert said == []
