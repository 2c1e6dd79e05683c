"""Walks with LGKD: that its loss is there, and that it does what every method does."""

import math

import pytest

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.networks import base_step, batch, network, next_step
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import logged, seasons

DISTILLER = dict(type='LabelGuidedDistiller')


@pytest.mark.parametrize(
    ('method', 'losses'),
    [
        ('lgkd', {'decode.loss_plop', 'distill.loss_pod', 'distill.loss_lgkd'}),
        ('lgkd_mib', {'decode.loss_unce', 'distill.loss_lgkd'}),
    ],
)
def test_a_walk_has_the_losses_of_its_base_and_its_own(method, losses, data_root, tmp_path):
    WalkRunner(tiny_config(data_root, method), tmp_path, steps='0-1').run()
    lines = logged(tmp_path, 1)
    named = {name for name in lines[-1] if name.startswith(('decode.loss', 'distill.'))}
    assert named == losses
    assert all(math.isfinite(line['loss']) and line['distill.loss_lgkd'] > 0 for line in lines)
    assert not any('distill' in name for name in logged(tmp_path, 0)[-1])


@pytest.mark.parametrize('method', ['lgkd', 'lgkd_mib'])
def test_a_walk_by_domain_has_nothing_new_and_is_distilled(method, data_root, tmp_path):
    cfg = tiny_config(data_root, method)
    cfg.protocol = seasons(['early', 'late'], ['last'])
    WalkRunner(cfg, tmp_path).run()
    assert all(line['distill.loss_lgkd'] > 0 for line in logged(tmp_path, 1))


@pytest.mark.walk
def test_the_official_choices_walk_where_maps_have_quarters(tmp_path):
    config, checkpoint = network(), tmp_path / 'base.pth'
    base_step(config, checkpoint)
    pod = dict(type='LocalPODDistiller', regions='official')
    model = next_step(config, checkpoint, distillers=[pod, DISTILLER], classifier_init='balanced')
    losses = model.train().loss(*batch(5, size=64))
    assert losses['distill.loss_lgkd'] > 0 and losses['distill.loss_pod'] > 0


def test_a_network_without_background_is_refused_when_it_is_built(tmp_path):
    config, checkpoint = network(), tmp_path / 'base.pth'
    base_step(config, checkpoint, has_background=False)
    parts = dict(has_background=False, classifier_init='random')
    with pytest.raises(InputError, match='this protocol has no background: set new_weight=0'):
        next_step(config, checkpoint, distillers=[DISTILLER], **parts)
    model = next_step(config, checkpoint, distillers=[dict(DISTILLER, new_weight=0.0)], **parts)
    assert model.train().loss(*batch(5))['distill.loss_lgkd'] > 0


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('method', ['lgkd', 'lgkd_mib'])
def test_it_does_what_every_method_does(method, tmp_path):
    check_method(method, tmp_path)
    assert all(line['distill.loss_lgkd'] > 0 for line in logged(tmp_path / 'replay', 1))
