"""The factors of REMINDER's configs."""

import pytest

from mmseg_cil.engine.config.compose import compose, read_piece
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.engine.config.published import as_published
from mmseg_cil.protocols import NAMED
from mmseg_cil.registry import MODELS


def built(method, protocol):
    """The distillers of a method, as they are built, and all its other parts."""
    parts = method_of(read_piece('method', method), protocol)
    return [MODELS.build(distiller) for distiller in parts.pop('distillers')], parts


@pytest.mark.parametrize(
    ('method', 'base'), [('reminder', 'plop'), ('reminder_paper', 'plop_paper')]
)
def test_it_is_plop_with_a_distiller_and_a_hook(method, base):
    for protocol in NAMED:
        (pod, csw), parts = built(method, protocol)
        (expected,), of_base = built(base, protocol)
        for name in ('factor', 'logits_factor', 'scales', 'regions', 'grows'):
            assert getattr(pod, name) == getattr(expected, name), (protocol, name)
        assert (csw.loss_weight, csw.temperature) == (0.5, 3.0)
        # The official scripts leave dissimilar classes out on ADE20K alone.
        on_ade = protocol.startswith('ade20k') and not protocol.endswith('joint')
        assert csw.delta == (1.0 if on_ade else 0.0), protocol
        *hooks, own = parts.pop('custom_hooks')
        assert own == dict(type='ReminderPrototypesHook') and hooks == of_base.pop('custom_hooks')
        assert {**parts, 'name': base} == of_base


def test_as_published_takes_the_choices_of_the_official_code():
    cfg = as_published(compose(dict(method='reminder', protocol='ade20k_100-50')))
    assert cfg.method.name == 'reminder_paper' and cfg.protocol.preset == 'plop'
    assert cfg.method.custom_hooks[0].median == 'official'
    pod, csw = method_of(cfg, 'ade20k_100-50')['distillers']
    assert pod['regions'] == 'official' and pod['factor'] == 1e-3
    assert csw == dict(type='ClassSimilarityDistiller', delta=1.0)
