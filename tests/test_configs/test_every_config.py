"""The config files that there are, what is made of them, and what became of former ones."""

import importlib.util
import re
from pathlib import Path

import pytest

from mmseg_cil.datasets.pipeline import crop_of
from mmseg_cil.engine.config.compose import BASES, compose
from mmseg_cil.engine.config.load import load_config
from mmseg_cil.engine.data import first_value
from mmseg_cil.errors import InputError
from mmseg_cil.utils.config_text import config_text

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = importlib.util.spec_from_file_location(
    'make_published', ROOT / 'docs' / 'make_published.py'
)
make_published = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(make_published)
TEMPLATES = sorted(ROOT.glob('configs/[!_]*/*.py'))


def test_every_method_has_one_template():
    assert len(TEMPLATES) == len({path.parent for path in TEMPLATES})
    methods = {path.stem.partition('_')[0] for path in (BASES / 'methods').glob('*.py')}
    assert methods == {path.parent.name.partition('_')[0] for path in TEMPLATES}


@pytest.mark.parametrize('path', TEMPLATES, ids=lambda path: path.parent.name)
def test_a_template_is_what_method_and_protocol_compose(path):
    cfg = load_config(path)
    composed = compose(dict(method=path.parent.name, protocol=cfg.protocol.name))
    assert cfg.to_dict() == composed.to_dict()
    assert Path(composed.filename).name == path.name
    assert f'--method {path.parent.name} --protocol {cfg.protocol.name}' in path.read_text()


@pytest.mark.parametrize(
    ('method', 'protocol'),
    [
        ('mib', 'embedded_11-5'),
        ('plop', 'ade20k_100-50'),
        ('icarl', 'ade20k_100-5'),
        ('rcil', 'cityscapes_domain_1-1'),
        ('m2kd', 'voc_11-5'),
    ],
)
def test_a_printed_config_walks_the_same(tmp_path, method, protocol):
    cfg = compose(dict(method=method, protocol=protocol))
    path = tmp_path / 'my.py'
    path.write_text(config_text(cfg))
    assert load_config(path).to_dict() == cfg.to_dict()


@pytest.mark.parametrize(
    ('pieces', 'logged', 'saved'),
    [
        (dict(protocol='voc_15-1'), 50, 1000),
        (dict(protocol='embedded_11-5'), 50, 100),
        (dict(protocol='voc_11-5', dataset='voc_real_160'), 10, 50),
        (dict(protocol='embedded_11-5', schedule='short'), 50, 1000),
    ],
)
def test_short_schedules_log_and_save_more_often(pieces, logged, saved):
    hooks = compose(dict(method='mib', **pieces)).default_hooks
    assert (hooks.logger.interval, hooks.checkpoint.interval) == (logged, saved)
    assert set(hooks) == {'timer', 'logger', 'param_scheduler', 'checkpoint', 'sampler_seed'}


@pytest.mark.parametrize(
    'protocol', ['voc_15-1', 'ade20k_100-50', 'cityscapes_14-1', 'embedded_11-5', 'voc_real_years']
)
def test_the_crop_is_what_the_network_is_padded_to(protocol):
    cfg = compose(dict(method='mib', protocol=protocol))
    pipeline = first_value(cfg.train_dataloader.dataset, 'pipeline')
    assert crop_of(pipeline) == tuple(cfg.model.data_preprocessor.size)


@pytest.mark.parametrize(
    ('name', 'instead'),
    [
        ('plop/plop_deeplabv3_r101-d16_voc-10-1.py', '--method plop --protocol voc_10-1,'),
        ('m2kd/m2kd_pruned_demo_11-5.py', '--method m2kd_pruned --protocol embedded_11-5,'),
        (
            'rcil/rcil_deeplabv3_r101-d16_cityscapes-domain-11-5.py',
            '--method rcil --protocol cityscapes_domain_11-5,',
        ),
        (
            'm2kd/m2kd_deeplabv3_r50-caffe_aux_voc-real-11-5.py',
            '--method m2kd --protocol voc_11-5 --dataset voc_real_160,',
        ),
        (
            'vdfd/vdfd_unce_deeplabv3_r50-caffe_voc-real-animals.py',
            '--method vdfd_unce --protocol voc_real_animals,',
        ),
        ('_base_/protocols/voc_15-1.py', "protocol = dict(name='voc_15-1', setting='overlapped'"),
        (
            '_base_/protocols/cityscapes_domain_1-1.py',
            "protocol = dict(name='cityscapes_domain_1-1', split='clean'",
        ),
    ],
)
def test_a_former_file_says_what_to_do_instead(tmp_path, name, instead):
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = '{ROOT}/configs/{name}'\n")
    with pytest.raises(InputError, match='which does not exist') as refused:
        load_config(path)
    assert instead in str(refused.value)
    with pytest.raises(InputError, match='there is no config file') as refused:
        load_config(ROOT / 'configs' / name)
    assert instead in str(refused.value)


def test_the_pages_that_are_made_are_current():
    # Else: python docs/make_published.py
    made = dict(make_published.contents())
    assert {path.parent for path in made} == {
        ROOT / 'docs',
        *(template.parent for template in TEMPLATES),
    }
    assert [path.parent.name for path, text in made.items() if path.read_text() != text] == []


@pytest.mark.parametrize('path', TEMPLATES, ids=lambda path: path.parent.name)
def test_a_readme_tells_paper_choices_commands_and_figures(path):
    text = (path.parent / 'README.md').read_text()
    heads = re.findall('^## (.*)$', text, re.M)
    assert heads == [
        'Official and ours',
        'Commands',
        "Deviations from the papers' settings",
        'Published figures',
    ]
    assert path.name in text and f'--method {path.parent.name} ' in text
    # Every piece of the method is told of.
    named = f'configs/{path.parent.name}/README.md'
    forms = [piece.stem for piece in (BASES / 'methods').glob('*.py') if named in piece.read_text()]
    assert [form for form in forms if form not in text] == []
