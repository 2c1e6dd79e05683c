"""Methods of the paper presets make the official code's choices, and only those differ."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_cil.engine.step_config import method_of

METHODS = Path(__file__).resolve().parents[2] / 'configs/_base_/methods'


def method(name, protocol='voc_15-5'):
    return method_of(Config.fromfile(METHODS / f'{name}.py'), protocol)


@pytest.mark.parametrize('protocol', [
    'voc_15-5', 'ade20k_100-50', 'cityscapes_domain_11-5', 'cityscapes_domain_1-1'])
def test_plop_paper_is_plop_but_for_the_official_choices(protocol):
    paper, ours = method('plop_paper', protocol), method('plop', protocol)
    hook, = paper['custom_hooks']
    distiller, = paper['distillers']
    assert (hook.pop('median'), hook.pop('crops')) == ('official', 'random')
    assert distiller.pop('regions') == 'official'
    assert paper['loss_decode'].pop('factor_without_background') == 0.0
    ours['custom_hooks'][0].pop('median')
    assert paper.pop('name') == 'plop_paper' and ours.pop('name') == 'plop'
    assert paper == ours


def test_plop_has_the_official_thresholds_and_factors():
    paper = method('plop_paper')
    assert paper['custom_hooks'][0]['base'] == 0.001
    assert paper['loss_decode'].get('min_factor', 0.0) == 0.0
    assert paper['classifier_init'] == 'balanced'


def test_the_original_ilt_has_its_own_pixels():
    original = method('ilt_original')
    output, features = original['distillers']
    assert output['among'] == 'old' and output.get('resolution', 'full') == 'full'
    assert output['loss'] == dict(type='KnowledgeDistillationLoss', loss_weight=1.0, over_all=True,
                                  class_mean=False)
    assert features['loss']['loss_weight'] == 50.0
    assert original['loss_decode'] == dict(
        type='PixelCrossEntropyLoss', loss_weight=1.0, avg_non_ignore=True)
