"""RCIL's configs: weights, learning rates and the change of the network."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_cil.engine.config.method import method_of

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted(ROOT.glob('configs/rcil/*.py'))
#: Spatial and channel factors, each of all maps but the last and of the last.
FACTORS = {
    'voc': (0.01, 5e-4, 0.01, 5e-4),
    'embedded': (0.01, 5e-4, 0.01, 5e-4),
    'ade20k': (5e-6, 5e-7, 5e-6, 5e-7),
    'cityscapes': (0.01, 5e-4, 0.01, 5e-4),  # by class none are published: those of VOC
    'cityscapes_domain': (5e-4, 1e-4, 1e-4, 0.0),
}
RATES = {
    'voc': (0.02, 0.001),
    'ade20k': (0.01, 0.001),
    'cityscapes': (0.02, 0.001),
    'cityscapes_domain_11-5': (0.02, 0.002),
    'cityscapes_domain_11-1': (0.02, 0.004),
    'cityscapes_domain_1-1': (0.02, 0.002),
}


@pytest.mark.parametrize('path', PATHS, ids=lambda one: one.stem)
def test_the_cube_weighs_as_published(path):
    cfg = Config.fromfile(path)
    name = cfg.protocol.name
    method = method_of(cfg, name)
    *others, cube = method['distillers']
    assert (
        cube['factor'],
        cube['last_factor'],
        cube['channel_factor'],
        cube['channel_last_factor'],
    ) == FACTORS[re.match('[a-z0-9]+(_domain)?', name)[0]]
    # The official scripts by domain distil no logits.
    weights = [one['loss']['loss_weight'] for one in others]
    assert weights == ([] if 'domain' in name or name == 'voc_real_years' else [100.0])
    assert method['network_change']['type'] == 'ParallelBranches'
    assert method['classifier_init'] == 'copied_background'


@pytest.mark.parametrize(
    'path', [one for one in PATHS if 'r101' in one.stem], ids=lambda one: one.stem
)
def test_learning_rates_are_those_of_the_scripts(path):
    cfg = Config.fromfile(path)
    name = cfg.protocol.name
    first, later = RATES.get(name) or RATES[name.split('_')[0]]
    assert cfg.step_overrides[0]['lr'] == first
    assert cfg.step_overrides['later']['lr'] == later


def test_every_protocol_of_the_other_methods_has_a_config():
    theirs = {path.stem.removeprefix('plop_') for path in ROOT.glob('configs/plop/*.py')}
    assert {path.stem.removeprefix('rcil_') for path in PATHS} == theirs
