"""NeST's pre-tuning as its official scripts have it, by protocol."""

import pytest

from mmseg_cil.engine.config.compose import compose
from mmseg_cil.engine.config.method import find_method
from mmseg_cil.engine.config.published import as_published
from mmseg_cil.registry import SUB_STEPS

PAPER = dict(norm_statistics='moving', bias='drawn', bias_scale='sum', max_images=None)
FORMS = ['mib_nest', 'mib_nest_paper', 'plop_nest', 'plop_nest_paper']


def method_of(name, protocol):
    return find_method(compose(dict(method=name, protocol=protocol)), protocol)


@pytest.mark.parametrize('name', FORMS)
@pytest.mark.parametrize(
    ('protocol', 'length', 'rate'),
    [('voc_15-1', 5, 1.0), ('voc_10-1', 5, 1.0), ('ade20k_100-5', 15, 500.0)],
)
def test_length_and_rate_are_those_of_the_scripts(name, protocol, length, rate):
    (config,) = method_of(name, protocol).sub_steps
    built = SUB_STEPS.build(dict(config))
    assert (built.epochs, built.lr_factor) == (length, rate)
    paper = {key: config[key] for key in PAPER if key in config}
    assert paper == (PAPER if name.endswith('_paper') else {})


@pytest.mark.parametrize('name', FORMS)
def test_old_rows_stand_still_with_plop_on_voc(name):
    plop = name.startswith('plop')
    assert bool(method_of(name, 'voc_15-1').freezing) == plop
    assert not method_of(name, 'ade20k_100-5').freezing


@pytest.mark.parametrize(
    'protocol', ['voc_15-1', 'ade20k_100-5', 'cityscapes_domain_1-1', 'cityscapes_domain_11-5']
)
@pytest.mark.parametrize('name', ['plop_nest', 'plop_nest_paper'])
def test_the_factors_are_those_of_plop(name, protocol):
    base = name.replace('_nest', '')
    ours, theirs = (method_of(kind, protocol).distillers for kind in (name, base))
    defaults = dict(factor=0.01, logits_factor=0.0005)
    told = [[{**defaults, **part} for part in parts] for parts in (ours, theirs)]
    assert told[0] == told[1]


def test_as_published_takes_the_official_choices():
    cfg = as_published(compose(dict(method='plop_nest', protocol='voc_15-1')))
    assert cfg.method.name == 'plop_nest_paper' and cfg.protocol.preset == 'plop'
    assert cfg.method.sub_steps[0].norm_statistics == 'moving'
