"""Every shipped config: that it loads, says what it must, and is what its pieces compose to."""

import ast
import importlib.util
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmseg_cil.datasets.pipeline import crop_of
from mmseg_cil.engine.config.compose import compose
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.engine.config.step_config import StepInputs, derive_step_config
from mmseg_cil.engine.data import first_value
from mmseg_cil.protocols import build_protocol
from mmseg_cil.registry import DATASETS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = importlib.util.spec_from_file_location(
    'make_published', ROOT / 'docs' / 'make_published.py'
)
make_published = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(make_published)
CONFIGS = sorted(ROOT.glob('configs/[!_]*/*.py'))


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def path(request):
    init_default_scope('mmseg_cil')
    return request.param


def protocol_of(cfg):
    kind = DATASETS.get(first_value(cfg.train_dataloader.dataset, 'type'))
    classes = kind.METAINFO['classes']
    reduced = first_value(cfg.train_dataloader.dataset, 'type') == 'ADE20KDataset'
    return build_protocol(cfg.protocol, classes, reduced)


def test_the_docstring_says_what_it_reproduces_and_how(path):
    text = ast.get_docstring(ast.parse(path.read_text())) or ''
    command = ''.join(text.split())
    assert f'{path.relative_to(ROOT)}' in command, 'the exact command is missing'
    for word in ('Published', 'Deviations'):
        assert word in text, f'{word} is missing'


def test_every_step_has_a_config_of_its_classes(path):
    """Networks are built in test_every_combination.py."""
    cfg = Config.fromfile(path)
    protocol = protocol_of(cfg)
    images = [1000] * len(protocol.steps)
    for step in {0, len(protocol.steps) - 1}:
        snapshot = dict(checkpoint='x.pth', num_classes=len(protocol.steps[max(0, step - 1)].seen))
        inputs = StepInputs(snapshot if step else None, snapshot if step else None, images)
        config = derive_step_config(cfg, protocol, step, inputs, 'work_dirs/x')
        assert config.model.decode_head.num_classes == len(protocol.steps[step].seen)
        assert config.test_dataloader.dataset.step == step


def pieces_of(path):
    """The names of the pieces that a config file has as its bases."""
    tree = ast.parse(path.read_text())
    listed = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == '_base_'
    )
    return {
        Path(one).parent.name.removesuffix('s'): Path(one).stem
        for one in listed
        if Path(one).parent.name != '_base_'
    }


def test_the_command_line_composes_the_same_config(path):
    """From method and protocol alone for the papers' settings, else from all pieces."""
    cfg, pieces = Config.fromfile(path), pieces_of(path)
    of_papers = '_deeplabv3_r101-d16_' in path.stem
    chosen = ('method', 'protocol') if of_papers else tuple(pieces)
    composed = compose({kind: pieces[kind] for kind in chosen})
    expected, found = cfg.to_dict(), composed.to_dict()
    if not of_papers:
        # How often a short walk logs and saves is said in the file itself.
        del expected['default_hooks'], found['default_hooks']
    else:
        assert Path(composed.filename).stem == path.stem
    assert found == expected


def test_the_crop_is_what_the_network_is_padded_to_and_deviations_are_current(path):
    cfg = Config.fromfile(path)
    pipeline = first_value(cfg.train_dataloader.dataset, 'pipeline')
    assert crop_of(pipeline) == tuple(cfg.model.data_preprocessor.size)
    # Else: python docs/make_published.py
    text = path.read_text()
    assert text == make_published.with_deviations(text, cfg)
    of_papers = make_published.NETWORK in path.name
    assert text.count(make_published.BEGINS) == of_papers


def test_the_page_of_the_papers_settings_is_current():
    assert (ROOT / make_published.PAGE).read_text() == make_published.page()


def test_mib_weighs_distillation_as_published():
    weights = {}
    for path in ROOT.glob('configs/mib/*.py'):
        cfg = Config.fromfile(path)
        name = cfg.protocol.name
        weights[name] = method_of(cfg, name)['distillers'][0]['loss']['loss_weight']
    # Also on VOC 15-1, as --method MiB of every official script.
    assert 'voc_15-1' in weights and set(weights.values()) == {10.0}
