"""The weights of PLOP's configs."""

import pytest

from mmseg_cil.engine.config.compose import compose, read_piece
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.protocols import NAMED

FACTORS = {
    'voc': (0.01, 5e-4),
    'ade20k': (1e-3, 1e-5),
    'ade20k_joint': (0.01, 5e-4),  # one step: nothing is distilled
    'cityscapes': (0.01, 5e-4),  # none are published: those of VOC
    'cityscapes_domain_11-5': (1e-4, 1e-4),
    'cityscapes_domain_11-1': (1e-4, 1e-4),
    'cityscapes_domain_1-1': (1e-4, 1e-3),
}


@pytest.mark.parametrize('method', ['plop', 'plop_paper'])
def test_pod_weighs_as_published(method):
    piece = read_piece('method', method)
    for protocol in NAMED:
        (distiller,) = method_of(piece, protocol)['distillers']
        expected = FACTORS.get(protocol) or FACTORS[protocol.split('_')[0]]
        assert (distiller['factor'], distiller['logits_factor']) == expected, protocol
        # The official default: with the square root of classes seen over new classes.
        assert distiller.get('grows', True)


@pytest.mark.parametrize('protocol', ['voc_10-1', 'voc_11-1', 'voc_15-1'])
def test_later_steps_of_10_1_take_ten_epochs(protocol):
    cfg = compose(dict(method='plop', protocol=protocol))
    later = 30 if protocol == 'voc_15-1' else 10
    assert cfg.step_overrides['later'] == dict(lr=0.001, max_epochs=later)
    assert cfg.step_overrides[0] == dict(lr=0.01, max_epochs=30)
