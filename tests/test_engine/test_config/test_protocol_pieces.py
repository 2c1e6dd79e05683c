"""A method has values for single protocols; a user's own value goes before them."""

from pathlib import Path

import pytest

from mmseg_cil.engine.config.compose import compose
from mmseg_cil.engine.config.files import files_of
from mmseg_cil.engine.config.load import load_config, read_unsettled, with_options
from mmseg_cil.engine.config.method import memory_settings, method_of
from mmseg_cil.engine.config.protocol_pieces import find_piece
from mmseg_cil.engine.config.step_config import StepInputs, derive_step_config
from mmseg_cil.engine.preflight.names import read_names
from mmseg_cil.errors import InputError
from mmseg_cil.protocols import build_protocol

ROOT = Path(__file__).resolve().parents[3]
METHODS = ROOT / 'configs/_base_/methods'
ADE = ('100-50', '100-10', '100-5', '50-50')


def child(tmp_path, text, base):
    path = tmp_path / 'child.py'
    path.write_text(f"_base_ = ['{base}']\n{text}\n")
    return path


@pytest.mark.parametrize('tasks', ADE)
@pytest.mark.parametrize(
    ('text', 'budget'),
    [
        ('', 300),
        ('method = dict(memory=dict(budget=50))', 50),
        ("method = {'memory': {'budget': 50}}", 50),
        ('method = dict(memory=dict(budget=100))', 100),  # the method's default, but said
        ("method = dict(memory=dict(selection='random'))", 300),
        ("method = dict(memory=dict(_delete_=True, budget=20, per='total'))", 20),
    ],
)
def test_of_a_config_file(tmp_path, tasks, text, budget):
    cfg = load_config(child(tmp_path, text, METHODS / 'icarl.py'))
    assert memory_settings(cfg, f'ade20k_{tasks}').budget == budget


def test_of_a_method_file_on_the_command_line(tmp_path):
    path = child(
        tmp_path, "method = dict(name='small', memory=dict(budget=50))", METHODS / 'icarl.py'
    )
    cfg = compose(dict(method=str(path), protocol='ade20k_100-10'))
    assert memory_settings(cfg, 'ade20k_100-10').budget == 50


def test_of_an_element_of_a_list(tmp_path):
    found = method_of(
        load_config(
            child(
                tmp_path,
                "method = dict(distillers=[dict(type='LocalPODDistiller', factor=0.5)])",
                METHODS / 'plop.py',
            )
        ),
        'ade20k_100-10',
    )['distillers'][0]
    assert (found['factor'], found['logits_factor']) == (0.5, 1e-5)


def test_of_a_list_that_the_protocol_replaces_as_a_whole(tmp_path):
    text = "method = dict(distillers=[dict(type='PooledCubeDistiller', factor=0.5)])"
    cfg = load_config(child(tmp_path, text, METHODS / 'rcil.py'))
    for protocol in ('voc_15-1', 'cityscapes_domain_1-1'):
        assert method_of(cfg, protocol)['distillers'] == [
            dict(type='PooledCubeDistiller', factor=0.5)
        ]


def test_of_an_option_within_a_list_that_the_protocol_gives():
    cfg = compose(dict(method='rcil', protocol='cityscapes_domain_1-1'))
    with_options(cfg, {'method.distillers.0.factor': 0.5})
    (found,) = method_of(cfg, 'cityscapes_domain_1-1')['distillers']
    assert (found['type'], found['factor'], found['last_factor']) == (
        'PooledCubeDistiller',
        0.5,
        1e-4,
    )


def test_an_option_for_an_element_that_the_protocol_has_not():
    cfg = compose(dict(method='rcil', protocol='cityscapes_domain_1-1'))
    with pytest.raises(InputError, match='--cfg-options cannot be applied'):
        with_options(cfg, {'method.distillers.1.factor': 0.5})


def test_the_protocol_of_the_options_counts(tmp_path):
    path = tmp_path / 'c.py'
    path.write_text(f"_base_ = '{METHODS}/plop.py'\nprotocol = dict(name='voc_15-1')\n")
    options = {'method.distillers.0.factor': 0.5, 'protocol.name': 'ade20k_100-10'}
    (found,) = load_config(path, options).method.distillers
    assert (found.factor, found.logits_factor) == (0.5, 1e-5)


def test_a_config_with_another_protocol_by_name_takes_its_settings(tmp_path):
    path = tmp_path / 'c.py'
    path.write_text(f"_base_ = '{METHODS}/plop.py'\nprotocol = dict(name='voc_15-1')\n")
    cfg = compose(dict(protocol='ade20k_100-10'), read_unsettled(path))
    assert cfg.method.distillers[0].factor == 1e-3
    assert load_config(path).method.distillers[0].factor == 0.01


@pytest.mark.parametrize('factor', [0.01, 0.3])
def test_what_is_usual_but_said_stays(tmp_path, factor):
    """Here VOC's factors on ADE20K."""
    text = (
        "method = dict(distillers=[dict(type='LocalPODDistiller', "
        f'factor={factor}, logits_factor=0.0005)])'
    )
    path = child(tmp_path, text, METHODS / 'plop.py')
    (found,) = method_of(load_config(path), 'ade20k_100-10')['distillers']
    assert (found['factor'], found['logits_factor']) == (factor, 0.0005)
    # On other protocols nothing is put into a user's list.
    assert method_of(load_config(path), 'voc_15-1')['distillers'] == [found]


@pytest.mark.parametrize(
    ('protocol', 'piece'),
    [
        ('ade20k_100-50', 'ade20k'),
        ('ade20k_joint', 'default'),  # nothing is distilled
        ('ade20k_30-20', 'default'),  # no schedule of the papers
        ('cityscapes_10-9', 'default'),
        ('cityscapes_domain_11-5', 'cityscapes_domain'),
        ('cityscapes_domain_1-1', 'cityscapes_domain_1-1'),
        ('voc_real_years', 'default'),
        ('mine', 'default'),
    ],
)
def test_the_nearest_piece_is_found_by_name(protocol, piece):
    assert find_piece(METHODS / 'plop', protocol) == METHODS / f'plop/{piece}.py'


def test_vdfd_has_a_tenth_of_its_weight_where_five_classes_come_at_once():
    usual, many = (
        compose(dict(method='vdfd', protocol=name)).method.to_dict()
        for name in ('voc_15-1', 'voc_11-5')
    )
    assert [part['loss_weight'] for part in usual['regularisers']] == [100.0, 0.3]
    assert [part['loss_weight'] for part in many['regularisers']] == [10.0, 0.3]
    many['regularisers'][0]['loss_weight'] = 100.0
    assert many == usual


def test_vdfd_has_a_tenth_of_its_weight_where_a_walk_begins_with_one_domain():
    usual, singly = (
        compose(dict(method='vdfd', protocol=name)).method.to_dict()
        for name in ('cityscapes_domain_11-1', 'cityscapes_domain_1-1')
    )
    assert usual['regularisers'][0]['loss_weight'] == 0.1
    assert singly['regularisers'][0]['loss_weight'] == 0.01
    singly['regularisers'][0]['loss_weight'] = 0.1
    assert singly == usual


def test_a_piece_for_domains_goes_before_the_default(tmp_path):
    home = METHODS / 'vdfd'
    assert find_piece(home, 'cityscapes_domain_11-5') == home / 'by_domain.py'
    assert find_piece(home, 'mine') == find_piece(home, 'voc_15-1') == home / 'default.py'
    assert find_piece(home, 'mine', by_domain=True) == home / 'by_domain.py'
    assert find_piece(METHODS / 'plop', 'mine', by_domain=True) == METHODS / 'plop/default.py'
    domains = [dict(name=name, pattern=f'{name}_*') for name in ('sun', 'rain')]
    path = tmp_path / 'mine.py'
    path.write_text(
        f'_base_ = {str(METHODS / "vdfd.py")!r}\n'
        f"protocol = dict(name='mine', dataset='voc', domains={domains}, "
        "domain_steps=[['sun'], ['rain']])\n"
    )
    hooks = load_config(path).method.custom_hooks
    assert [hook.type for hook in hooks] == ['EWFHook', 'VDFDHook']


def test_pieces_of_a_users_own(tmp_path):
    for name, weight in (('default', 1.0), ('voc_15-1', 3.0)):
        (tmp_path / f'{name}.py').write_text(
            f'method = dict(loss_decode=dict(loss_weight={weight}))'
        )
    method = dict(name='mine', by_protocol=str(tmp_path), loss_decode=dict(type='X'))
    for protocol, weight in (('voc_15-1', 3.0), ('voc_19-1', 1.0)):
        assert method_of(dict(method=method), protocol) == dict(
            name='mine', loss_decode=dict(type='X', loss_weight=weight)
        )
    with pytest.raises(InputError, match=r"method\.by_protocol is 'nowhere', but .* no default.py"):
        method_of(dict(method=dict(method, by_protocol='nowhere')), 'voc_15-1')


def test_a_file_may_delete_the_overrides_that_a_method_had(tmp_path):
    text = 'method = dict(protocol_overrides=dict(_delete_=True))'
    cfg = load_config(child(tmp_path, text, METHODS / 'icarl.py'))
    assert memory_settings(cfg, 'ade20k_100-10').budget == 100


def test_overrides_that_are_no_dict_are_told():
    with pytest.raises(InputError, match='protocol_overrides is 3; it must be a dict of dicts'):
        method_of(dict(method=dict(name='mine', protocol_overrides=3)), 'a')


def test_overrides_that_do_not_fit_are_told():
    method = dict(
        name='mine', distillers=[], protocol_overrides={'a': {'distillers.1.factor': 0.5}}
    )
    with pytest.raises(InputError, match=r'distillers\.1\.factor = 0\.5 does not fit .* for a'):
        method_of(dict(method=method), 'a')


def test_options_go_before_a_users_overrides(tmp_path):
    text = "method = dict(protocol_overrides={'voc_15-1': {'memory.budget': 70}})"
    path = child(tmp_path, f"{text}\nprotocol = dict(name='voc_15-1')", METHODS / 'icarl.py')
    assert memory_settings(load_config(path), 'voc_15-1').budget == 70
    cfg = load_config(path, {'method.memory.budget': 5})
    assert memory_settings(cfg, 'voc_15-1').budget == 5


def test_overrides_beside_a_value_are_for_their_protocol(tmp_path):
    text = (
        'method = dict(memory=dict(budget=50), '
        "protocol_overrides={'ade20k_100-10': {'memory.budget': 70}})"
    )
    cfg = load_config(child(tmp_path, text, METHODS / 'icarl.py'))
    assert memory_settings(cfg, 'ade20k_100-10').budget == 70
    assert memory_settings(cfg, 'voc_15-1').budget == 50


def test_files_of_mmsegmentation_and_of_pure_python_configs(tmp_path):
    (tmp_path / 'bases').mkdir()
    (tmp_path / 'bases/own.py').write_text("own = 'value'\nused = own\n")
    (tmp_path / 'pure.py').write_text(
        'from mmengine.config import read_base\nwith read_base():\n    from .bases.own import *\n'
    )
    stock = 'mmseg::unet/unet-s5-d16_fcn_4xb4-40k_drive-64x64.py'
    (tmp_path / 'c.py').write_text(f'_base_ = [{stock!r}]\n')
    assert [file.name for file in files_of(tmp_path / 'pure.py')] == ['own.py', 'pure.py']
    assert read_names(str(tmp_path / 'pure.py')) >= {'own'}
    assert [file.name for file in files_of(tmp_path / 'c.py')] == [
        'fcn_unet_s5-d16.py',
        'drive.py',
        'default_runtime.py',
        'schedule_40k.py',
        'unet-s5-d16_fcn_4xb4-40k_drive-64x64.py',
        'c.py',
    ]


def test_the_last_file_counts(tmp_path):
    middle = tmp_path / 'middle.py'
    middle.write_text(f"_base_ = '{METHODS}/icarl.py'\nmethod = dict(memory=dict(budget=50))\n")
    cfg = load_config(child(tmp_path, "method = dict(name='other')", middle))
    assert memory_settings(cfg, 'ade20k_100-10').budget == 50


def test_of_one_step():
    cfg = compose(dict(method='plop', protocol='ade20k_100-10'))
    cfg.step_overrides[2] = {'method.distillers.0.factor': 3.0}
    protocol = build_protocol(cfg.protocol)
    factors = []
    for step in (1, 2):
        snapshot = dict(checkpoint='x.pth', num_classes=len(protocol.steps[step - 1].seen))
        inputs = StepInputs(snapshot, snapshot, [1000] * len(protocol.steps))
        config = derive_step_config(cfg, protocol, step, inputs, 'work_dirs/x')
        factors.append(config.model.distillers[0].factor)
    assert factors == [1e-3, 3.0]


def test_shipped_methods_keep_what_they_say_of_protocols():
    for method, protocol, factor in (
        ('plop_paper', 'ade20k_100-10', 1e-3),
        ('plop', 'cityscapes_domain_1-1', 1e-4),
    ):
        cfg = compose(dict(method=method, protocol=protocol))
        assert method_of(cfg, protocol)['distillers'][0]['factor'] == factor
