"""Walks with UCD: that its loss is there, and that it does what every method does."""

import math

import pytest

from mmseg_cil.engine.config.compose import compose, read_piece
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.engine.config.published import as_published
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import logged, seasons

#: Two classes are new, so that there is one to be told from the other.
TWO_STEPS = [['background', 'red', 'green'], ['blue', 'grey']]


@pytest.mark.parametrize(
    ('method', 'losses'),
    [
        ('mib_ucd', {'decode.loss_unce', 'distill.loss_unkd', 'distill.loss_ucd'}),
        ('plop_ucd', {'decode.loss_plop', 'distill.loss_pod', 'distill.loss_ucd'}),
    ],
)
def test_a_walk_has_the_losses_of_its_base_and_its_own(method, losses, data_root, tmp_path):
    WalkRunner(tiny_config(data_root, method, **{'protocol.steps': TWO_STEPS}), tmp_path).run()
    lines = logged(tmp_path, 1)
    named = {name for name in lines[-1] if name.startswith(('decode.loss', 'distill.'))}
    assert named == losses
    assert all(math.isfinite(line['loss']) and line['distill.loss_ucd'] > 0 for line in lines)
    assert not any('distill' in name for name in logged(tmp_path, 0)[-1])


@pytest.mark.walk
def test_a_walk_by_domain_compares_cells_by_their_labels(data_root, tmp_path):
    cfg = tiny_config(data_root, 'mib_ucd')
    cfg.protocol = seasons(['early', 'late'], ['last'])
    WalkRunner(cfg, tmp_path).run()
    assert all(line['distill.loss_ucd'] > 0 for line in logged(tmp_path, 1))


@pytest.mark.parametrize(
    ('method', 'base'), [('mib_ucd', 'mib'), ('mib_ucd_paper', 'mib'), ('plop_ucd', 'plop')]
)
def test_all_but_the_contrast_is_that_of_the_base(method, base):
    for protocol in ('voc_15-1', 'ade20k_100-10', 'cityscapes_domain_1-1', 'cityscapes_14-1'):
        parts, of_base = (
            method_of(read_piece('method', name), protocol) for name in (method, base)
        )
        *distillers, contrast = parts.pop('distillers')
        assert distillers == of_base.pop('distillers'), protocol
        assert {**parts, 'name': base} == of_base
        assert (contrast['temperature'], contrast['loss_weight']) == (0.07, 0.01)


def test_as_published_takes_the_choices_of_the_official_code():
    cfg = as_published(compose(dict(method='mib_ucd', protocol='voc_15-5')))
    assert cfg.method.name == 'mib_ucd_paper' and cfg.protocol.preset == 'plop'
    contrast = method_of(cfg, 'voc_15-5')['distillers'][1]
    assert contrast['shift'] == 'official' and contrast['across_processes'] is False
    # The official labels do not know the ids of ADE20K.
    for protocol, labels in (('voc_15-5', 'official'), ('ade20k_100-50', None)):
        contrast = method_of(read_piece('method', 'mib_ucd_paper'), protocol)['distillers'][1]
        assert contrast.get('labels') == labels


@pytest.mark.walk
def test_official_labels_without_a_background_are_refused_before_training(data_root, tmp_path):
    cfg = tiny_config(data_root, 'mib_ucd', rehearsal=True)
    cfg.method.distillers[1].labels = 'official'
    cfg.protocol.background = 'none'
    cfg.method.classifier_init = 'random'
    with pytest.raises(InputError, match='takes class 0 for the background'):
        WalkRunner(cfg, tmp_path).prepare()


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('method', ['mib_ucd', 'plop_ucd'])
def test_it_does_what_every_method_does(method, tmp_path):
    check_method(method, tmp_path / 'one')
    checks = ('processes', 'replay', 'mixed_precision')
    check_method(method, tmp_path / 'two', checks=checks, **{'protocol.steps': TWO_STEPS})
    for name in ('processes/one', 'replay', 'mixed_precision'):
        assert all(line['distill.loss_ucd'] > 0 for line in logged(tmp_path / 'two' / name, 1))
