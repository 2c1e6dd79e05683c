"""Methods of the paper presets make the official code's choices, and only those differ."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmseg_cil.engine.config.compose import compose
from mmseg_cil.engine.config.load import with_options
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.protocols import build_protocol

METHODS = Path(__file__).resolve().parents[2] / 'configs/_base_/methods'


def method(name, protocol='voc_15-5'):
    return method_of(Config.fromfile(METHODS / f'{name}.py'), protocol)


@pytest.mark.parametrize(
    'protocol', ['voc_15-5', 'ade20k_100-50', 'cityscapes_domain_11-5', 'cityscapes_domain_1-1']
)
def test_plop_paper_is_plop_but_for_the_official_choices(protocol):
    paper, ours = method('plop_paper', protocol), method('plop', protocol)
    (hook,) = paper['custom_hooks']
    (distiller,) = paper['distillers']
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
    assert output['loss'] == dict(
        type='KnowledgeDistillationLoss', loss_weight=1.0, over_all=True, class_mean=False
    )
    assert features['loss']['loss_weight'] == 50.0
    assert original['loss_decode'] == dict(
        type='PixelCrossEntropyLoss', loss_weight=1.0, avg_non_ignore=True
    )


@pytest.mark.parametrize(
    ('protocol', 'weight'), [('voc_15-1', 10.0), ('voc_15-5', 10.0), ('ade20k_100-10', 10.0)]
)
def test_mib_makes_the_official_choices_itself(protocol, weight):
    """Nothing is left for a method mib_paper: of losses and classifier there is one reading."""
    official = method('mib', protocol)
    assert official['loss_decode'] == dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0)
    (distiller,) = official['distillers']
    assert distiller['loss'] == dict(
        type='UnbiasedKnowledgeDistillationLoss', loss_weight=weight, alpha=1.0
    )
    assert official['classifier_init'] == 'balanced'


def test_rcil_makes_the_official_choices_itself():
    official = method('rcil')
    output, cube = official['distillers']
    assert output['loss'] == dict(
        type='UnbiasedKnowledgeDistillationLoss', loss_weight=100.0, alpha=1.0
    )
    assert [
        cube[name] for name in ('factor', 'last_factor', 'channel_factor', 'channel_last_factor')
    ] == [0.01, 5e-4, 0.01, 5e-4]
    assert official['classifier_init'] == 'copied_background'
    # On Cityscapes by city the official scripts train with plain cross-entropy and the cube.
    (cube,) = method('rcil', 'cityscapes_domain_11-5')['distillers']
    assert cube['channel_factor'] == 1e-4 and cube['channel_last_factor'] == 0.0


@pytest.mark.parametrize(
    ('name', 'protocol', 'options', 'expected'),
    [
        (
            'mib',
            'voc_15-1',
            {'preset': 'mib'},
            dict(
                void_train='background', unseen_test='ignore', background_in_means=False, old='base'
            ),
        ),
        (
            'mib',
            'ade20k_100-50',
            {'preset': 'mib'},
            dict(background_test='ignore', background_in_means=False),
        ),
        (
            'plop_paper',
            'voc_15-1',
            {'preset': 'plop'},
            dict(
                void_train='ignore', unseen_test='background', background_in_means=True, old='base'
            ),
        ),
        ('rcil', 'ade20k_100-50', {'preset': 'plop'}, dict(void_train='background')),
        ('rcil', 'cityscapes_domain_11-5', {'split': 'legacy'}, {}),
    ],
)
def test_the_papers_rules_for_labels_are_an_option_of_the_protocol(
    name, protocol, options, expected
):
    cfg = with_options(
        compose(dict(method=name, protocol=protocol)),
        {f'protocol.{key}': value for key, value in options.items()},
    )
    built = build_protocol(cfg.protocol)
    assert {key: getattr(built.policy, key) for key in expected} == expected
    assert {key: cfg.protocol[key] for key in options} == options
