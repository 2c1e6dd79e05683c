"""The weights of LGKD's configs."""

import pytest

from mmseg_cil.engine.config.compose import compose, read_piece
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.engine.config.published import as_published
from mmseg_cil.protocols import NAMED
from mmseg_cil.registry import MODELS

#: Weights of cells without and with a new class in the official scripts; elsewhere 1 and 1.
WEIGHTS = {
    'voc_19-1': (5.0, 0.5),
    'voc_15-5': (5.0, 1.0),
    'voc_15-1': (1.0, 0.0),
    'ade20k_100-50': (1.0, 20.0),
    'ade20k_50-50': (2.0, 10.0),
    'ade20k_100-10': (1.0, 1.0),
}


def built(method, protocol):
    """The distillers of a method, as they are built, and all its other parts."""
    parts = method_of(read_piece('method', method), protocol)
    return [MODELS.build(distiller) for distiller in parts.pop('distillers')], parts


@pytest.mark.parametrize('method', ['lgkd', 'lgkd_paper', 'lgkd_mib'])
def test_lgkd_weighs_as_published(method):
    for protocol in NAMED:
        distiller = built(method, protocol)[0][-1]
        expected = WEIGHTS.get(protocol, (1.0, 1.0))
        assert (distiller.old_weight, distiller.new_weight) == expected, protocol
        assert distiller.resolution == 'low'


@pytest.mark.parametrize(('method', 'base'), [('lgkd', 'plop'), ('lgkd_paper', 'plop_paper')])
def test_all_else_is_that_of_plop(method, base):
    for protocol in NAMED:
        (pod, _), parts = built(method, protocol)
        (expected,), of_base = built(base, protocol)
        for name in ('factor', 'logits_factor', 'scales', 'regions', 'grows'):
            assert getattr(pod, name) == getattr(expected, name), (protocol, name)
        assert {**parts, 'name': base} == of_base


def test_all_but_the_distillation_is_that_of_mib():
    for protocol in NAMED:
        distillers, parts = built('lgkd_mib', protocol)
        assert len(distillers) == 1 and {**parts, 'name': 'mib'} == built('mib', protocol)[1]


def test_as_published_takes_the_choices_of_the_official_code():
    cfg = as_published(compose(dict(method='lgkd', protocol='voc_15-5')))
    assert cfg.method.name == 'lgkd_paper' and cfg.protocol.preset == 'plop'
    assert cfg.method.custom_hooks[0].median == 'official'
    assert method_of(cfg, 'voc_15-5')['distillers'] == [
        dict(type='LocalPODDistiller', regions='official'),
        dict(type='LabelGuidedDistiller', old_weight=5.0),
    ]
