"""EWF on its base methods: what its pieces add, and what becomes of the background's shift."""

import math
from types import SimpleNamespace

import pytest
import torch

from mmseg_cil.engine.config.compose import compose, read_piece
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.engine.config.published import as_published
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.methods.ewf.hook import EWFHook
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.networks import base_step, batch, network, next_step
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import seasons

LOGGER = SimpleNamespace(info=lambda text: None)


@pytest.mark.parametrize(
    ('method', 'base', 'start'),
    [
        ('mib_ewf', 'mib', None),
        ('plop_ewf', 'plop', None),
        ('rcil_ewf', 'rcil', None),
        ('vdfd_ewf', 'vdfd_plain', None),
        ('mib_ewf_paper', 'mib', 'official'),
        ('plop_ewf_paper', 'plop_paper', 'official'),
    ],
)
def test_a_piece_adds_fusion_and_frozen_rows_to_its_base_and_nothing_else(method, base, start):
    parts, expected = (method_of(read_piece('method', name), 'voc_15-1') for name in (method, base))
    *hooks, ewf = parts.pop('custom_hooks')
    assert ewf.pop('type') == 'EWFHook' and ewf == ({'start': start} if start else {})
    assert hooks == expected.pop('custom_hooks', [])
    assert parts.pop('freezing') == dict(old_rows=True)
    assert parts.pop('name') == method and expected.pop('name') == base
    assert parts == expected


@pytest.mark.parametrize('method', ['mib_ewf', 'plop_ewf'])
def test_as_published_takes_the_choices_of_the_official_code(method):
    cfg = as_published(compose(dict(method=method, protocol='voc_15-1')))
    assert cfg.method.name == f'{method}_paper' and cfg.protocol.preset == 'plop'
    assert cfg.method.custom_hooks[-1] == dict(type='EWFHook', start='official')


@pytest.fixture
def grown(tmp_path):
    """A network at step 0 with 3 classes, and one that has grown from it by 2 and not learnt."""
    config = network()
    old = base_step(config, tmp_path / 'base.pth')
    model = next_step(config, tmp_path / 'base.pth', classifier_init='balanced')
    return old, model.eval()


def probabilities(model):
    images, samples = batch(3)
    with torch.no_grad():
        return model.encode_decode(images, [sample.metainfo for sample in samples]).softmax(dim=1)


@pytest.mark.parametrize('start', ['grown', 'official'])
def test_a_step_that_learnt_nothing_keeps_the_shift_of_the_background_or_a_share_of_it(
    grown, start
):
    """The balanced initialisation gives the background's probability to 2 + 1 equal classes."""
    old, model = grown
    EWFHook(start=start).change_weights(SimpleNamespace(model=model, logger=LOGGER))
    before, after = probabilities(old), probabilities(model)
    background, new = after[:, 0], after[:, 3:]
    share = math.sqrt(2 / 5)
    ahead = 1.0 if start == 'grown' else 3 ** (1 - share)
    torch.testing.assert_close(background[:, None].expand_as(new), ahead * new)
    if start == 'grown':
        torch.testing.assert_close(after[:, 1:3], before[:, 1:])
        torch.testing.assert_close(background + new.sum(dim=1), before[:, 0])
    else:
        assert (background + new.sum(dim=1) > before[:, 0]).all()


def test_frozen_rows_leave_a_fusion_as_they_entered_it(grown):
    """However the rest has moved; so freezing and fusion can be combined in any order."""
    _, model = grown
    begun = model.begun_state()
    with torch.no_grad():
        for value in plain_state_dict(model.state_dict()).values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value))
        classifier = model.decode_head.conv_seg
        rows = {name: begun[f'decode_head.conv_seg.{name}'] for name in ('weight', 'bias')}
        for name, value in rows.items():
            getattr(classifier, name)[:3] = value
    EWFHook().change_weights(SimpleNamespace(model=model, logger=LOGGER))
    for name, value in rows.items():
        assert torch.equal(getattr(classifier, name)[:3], value)


def test_a_walk_freezes_old_rows_with_the_shift_and_fuses_all_else(data_root, tmp_path):
    cfg = tiny_config(data_root, 'mib_ewf')
    WalkRunner(cfg, tmp_path, steps='0-1').run()
    first, second = weights(tmp_path, 0), weights(tmp_path, 1)
    for head in ('decode_head', 'auxiliary_head'):
        assert torch.equal(second[f'{head}.conv_seg.weight'][:3], first[f'{head}.conv_seg.weight'])
        bias = first[f'{head}.conv_seg.bias'].clone()
        bias[0] -= math.log(2)
        assert torch.equal(second[f'{head}.conv_seg.bias'][:3], bias)
        new = second[f'{head}.conv_seg.weight'][3]
        assert not torch.equal(new, first[f'{head}.conv_seg.weight'][0])
    name = 'backbone.layer1.0.conv1.weight'
    assert not torch.equal(first[name], second[name])


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('method', ['mib_ewf', 'plop_ewf', 'rcil_ewf', 'vdfd_ewf'])
def test_it_does_what_every_method_does(method, tmp_path):
    check_method(method, tmp_path)


def test_a_walk_by_domain_ends_between_its_beginning_and_plain_training(data_root, tmp_path):
    ends = {}
    for factor in (0.25, 1.0):
        cfg = tiny_config(data_root, 'finetune')
        cfg.protocol = seasons(['early', 'late'], ['last'])
        cfg.method.custom_hooks = [dict(type='EWFHook', factor=factor)]
        WalkRunner(cfg, tmp_path / str(factor)).run()
        ends[factor] = [weights(tmp_path / str(factor), step) for step in (0, 1)]
    (first, fused), (same, plain) = ends[0.25], ends[1.0]
    for key, value in first.items():
        assert torch.equal(value, same[key])
        if value.is_floating_point():
            torch.testing.assert_close(fused[key], 0.25 * plain[key] + 0.75 * value)
