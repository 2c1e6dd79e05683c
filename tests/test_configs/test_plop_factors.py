"""The weights of PLOP's configs."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_cil.engine.config.method import method_of

ROOT = Path(__file__).resolve().parents[2]
FACTORS = {
    'voc': (0.01, 5e-4),
    'embedded': (0.01, 5e-4),
    'ade20k': (1e-3, 1e-5),
    'cityscapes': (0.01, 5e-4),  # none are published: those of VOC
    'cityscapes_domain_11-5': (1e-4, 1e-4),
    'cityscapes_domain_11-1': (1e-4, 1e-4),
    'cityscapes_domain_1-1': (1e-4, 1e-3),
}


@pytest.mark.parametrize('path', sorted(ROOT.glob('configs/plop/*.py')), ids=lambda one: one.stem)
def test_pod_weighs_as_published(path):
    cfg = Config.fromfile(path)
    name = cfg.protocol.name
    (distiller,) = method_of(cfg, name)['distillers']
    expected = FACTORS.get(name) or FACTORS[name.split('_')[0]]
    assert (distiller['factor'], distiller['logits_factor']) == expected
    # The official default: with the square root of classes seen over new classes.
    assert distiller.get('grows', True)


@pytest.mark.parametrize('protocol', ['voc-10-1', 'voc-11-1', 'voc-15-1'])
def test_later_steps_of_10_1_take_ten_epochs(protocol):
    cfg = Config.fromfile(ROOT / f'configs/plop/plop_deeplabv3_r101-d16_{protocol}.py')
    later = 30 if protocol == 'voc-15-1' else 10
    assert cfg.step_overrides['later'] == dict(lr=0.001, max_epochs=later)
    assert cfg.step_overrides[0] == dict(lr=0.01, max_epochs=30)
