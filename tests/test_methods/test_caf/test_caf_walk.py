"""CAF as released: MiB and two squared distances, in numbers and in walks."""

import pytest
import torch

from mmseg_cil.engine.config.compose import compose, read_piece
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.engine.config.published import as_published
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.models.network_output import run_network
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.networks import base_step, batch, network, next_step
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import logged, seasons


def parts(method):
    return method_of(read_piece('method', method), 'voc_15-1')


def test_it_is_mib_with_two_distillers():
    caf, mib = parts('caf'), parts('mib')
    (own, *features), of_mib = caf.pop('distillers'), mib.pop('distillers')
    assert [own] == of_mib
    assert [distiller['stage'] for distiller in features] == [-1, 'embedding']
    assert {**caf, 'name': 'mib'} == mib


def test_as_published_is_after_the_code_of_mib():
    cfg = as_published(compose(dict(method='caf', protocol='voc_15-1')))
    assert cfg.method.name == 'caf' and cfg.protocol.preset == 'mib'


def test_the_two_maps_cost_a_thousand_times_their_mean_squared_difference(tmp_path):
    config = network('ASPPHead', dropout_ratio=0.1)
    base_step(config, tmp_path / 'base.pth')
    caf = parts('caf')
    model = next_step(
        config, tmp_path / 'base.pth', distillers=caf['distillers'], classifier_init='balanced'
    )
    images, samples = batch(5)
    # Without norms in training the student is the teacher: nothing to hold.
    losses = model.eval().loss(images, samples)
    for name in ('distill.loss_features', 'distill.loss_embedding'):
        assert losses[name] == 0, name
    with torch.no_grad():
        model.backbone.conv1.weight.mul_(1.5)
    losses = model.loss(images, samples)
    student, teacher = run_network(model, images), model.teacher(images)
    for name, maps in (
        ('features', (student.features[-1], teacher.features[-1])),
        ('embedding', (student.embedding, teacher.embedding)),
    ):
        expected = 1000 * (maps[0] - maps[1]).square().mean()
        assert expected > 0
        torch.testing.assert_close(losses[f'distill.loss_{name}'].detach(), expected)


@pytest.mark.parametrize('by_domain', [False, True])
def test_a_walk_has_the_losses_of_mib_and_its_own(by_domain, data_root, tmp_path):
    # The weight of 1000 wants a smaller rate than that of these tests.
    cfg = tiny_config(data_root, 'caf')
    cfg.step_overrides['later'] = dict(lr=0.001, max_iters=2)
    if by_domain:
        cfg.protocol = seasons(['early', 'late'], ['last'])
    WalkRunner(cfg, tmp_path, steps='0-1').run()
    for line in logged(tmp_path, 1):
        named = {name for name in line if name.startswith(('decode.loss', 'distill.'))}
        assert named == {
            'decode.loss_unce',
            'distill.loss_unkd',
            'distill.loss_features',
            'distill.loss_embedding',
        }
        assert all(0 < line[name] < 1e4 for name in named)


@pytest.mark.slow
@pytest.mark.walk
def test_it_does_what_every_method_does(tmp_path):
    check_method('caf', tmp_path, **{'step_overrides.later.lr': 0.001})
