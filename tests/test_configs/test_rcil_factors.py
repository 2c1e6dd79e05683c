"""RCIL's configs: weights, learning rates and the change of the network."""

import re

import pytest

from mmseg_cil.engine.config.compose import compose, read_piece
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.protocols import NAMED

#: Spatial and channel factors, each of all maps but the last and of the last.
FACTORS = {
    'voc': (0.01, 5e-4, 0.01, 5e-4),
    'ade20k': (5e-6, 5e-7, 5e-6, 5e-7),
    'cityscapes': (0.01, 5e-4, 0.01, 5e-4),  # by class none are published: those of VOC
    'cityscapes_domain': (5e-4, 1e-4, 1e-4, 0.0),
}
RATES = {
    'voc_15-1': (0.02, 0.001),
    'ade20k_100-50': (0.01, 0.001),
    'cityscapes_10-9': (0.02, 0.001),
    'cityscapes_domain_11-5': (0.02, 0.002),
    'cityscapes_domain_11-1': (0.02, 0.004),
    'cityscapes_domain_1-1': (0.02, 0.002),
}


def test_the_cube_weighs_as_published():
    piece = read_piece('method', 'rcil')
    for protocol in (name for name in (*NAMED, 'voc_real_years') if not name.endswith('joint')):
        method = method_of(piece, protocol)
        *others, cube = method['distillers']
        assert (
            cube['factor'],
            cube['last_factor'],
            cube['channel_factor'],
            cube['channel_last_factor'],
        ) == FACTORS[re.match('[a-z0-9]+(_domain)?', protocol)[0]], protocol
        # The official scripts by domain distil no logits.
        weights = [distiller['loss']['loss_weight'] for distiller in others]
        by_domain = 'domain' in protocol or protocol == 'voc_real_years'
        assert weights == ([] if by_domain else [100.0])
        assert method['network_change']['type'] == 'ParallelBranches'
        assert method['classifier_init'] == 'copied_background'


@pytest.mark.parametrize('protocol', RATES)
def test_learning_rates_are_those_of_the_scripts(protocol):
    cfg = compose(dict(method='rcil', protocol=protocol))
    rates = cfg.step_overrides[0]['lr'], cfg.step_overrides['later']['lr']
    assert rates == RATES[protocol]
