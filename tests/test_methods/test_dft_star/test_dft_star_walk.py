"""Walks with DFT*: what stands still, what is handed on, and what every method does."""

import json
import math

import pytest
import torch

from mmseg_cil.engine.config.compose import compose
from mmseg_cil.engine.config.published import as_published
from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.runner.scoring import score_weights
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.models.teacher import load_plain_state
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import assert_same_weights, at, killed, logged, seasons

HEADS = ('decode_head', 'auxiliary_head')


@pytest.fixture(scope='module')
def walked(data_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp('dft_star')
    WalkRunner(tiny_config(data_root, 'dft_star'), folder).run()
    return folder


def handed_on(folder, step):
    return torch.load(folder / f'step_{step:02d}/network_change.pth', weights_only=True)


def test_every_step_leaves_a_plain_network_and_the_rows_to_come(walked):
    for step, (classes, future) in enumerate([(3, 2), (4, 1), (5, 0)]):
        state = weights(walked, step)
        assert not any('future' in key for key in state)
        assert len(state['decode_head.conv_seg.weight']) == classes
        assert all(math.isfinite(line['loss']) for line in logged(walked, step))
        if future:
            rows = handed_on(walked, step)
            assert [len(rows[f'{head}.conv_seg.bias']) for head in HEADS] == [future] * 2
    assert not (walked / 'step_02/network_change.pth').exists()


def test_only_the_rows_of_new_and_future_classes_move(walked):
    for step in (1, 2):
        before, after = weights(walked, step - 1), weights(walked, step)
        for key, value in before.items():
            # Norm statistics stand still, too.
            assert torch.equal(after[key][: len(value)] if value.dim() else after[key], value), key
        for head in HEADS:
            began = handed_on(walked, step - 1)[f'{head}.conv_seg.weight']
            new = after[f'{head}.conv_seg.weight'][len(before[f'{head}.conv_seg.weight']) :]
            assert not torch.equal(new[0], began[0])
    assert not torch.equal(
        handed_on(walked, 1)['decode_head.conv_seg.weight'],
        handed_on(walked, 0)['decode_head.conv_seg.weight'][1:],
    )


def test_a_finished_step_is_scored_again_from_its_checkpoint(walked, data_root, tmp_path):
    walk = prepare_walk(tiny_config(data_root, 'dft_star'), tmp_path)
    path = walked / 'step_01/checkpoint.pth'
    found = score_weights(walk, 1, load_plain_state(path, 4), path, 'none')
    metrics = json.loads((walked / 'step_01/metrics.json').read_text())
    assert found['mIoU'] == metrics['mIoU']


@pytest.mark.walk
def test_a_killed_step_goes_on_with_its_future_rows(walked, data_root, tmp_path):
    cfg = tiny_config(data_root, 'dft_star')
    with killed(at(step=1, iteration=3)):
        WalkRunner(cfg, tmp_path, start_from=str(walked), steps='1').run()
    WalkRunner(cfg, tmp_path, resume=True, steps='1').run()
    assert_same_weights(walked, tmp_path, 1)
    whole, broken = handed_on(walked, 1), handed_on(tmp_path, 1)
    assert whole.keys() == broken.keys()
    assert all(torch.equal(value, broken[key]) for key, value in whole.items())


def test_a_walk_by_domain_has_no_rows_to_come(data_root, tmp_path):
    cfg = tiny_config(data_root, 'dft_star', rehearsal=True)
    cfg.protocol = seasons(['early', 'late'], ['last'])
    WalkRunner(cfg, tmp_path).run()
    assert not list(tmp_path.glob('*/network_change.pth'))
    before, after = weights(tmp_path, 0), weights(tmp_path, 1)
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert moved and all('conv_seg' in key for key in moved)


@pytest.mark.parametrize(
    ('protocol', 'rates', 'epochs'),
    [
        ('voc_15-1', (0.02, 0.0005), (30, 30)),
        ('voc_10-1', (0.02, 0.0005), (30, 30)),
        ('voc_15-5', (0.02, 0.02), (30, 30)),
        ('voc_19-1', (0.02, 0.005), (30, 30)),
        ('ade20k_100-50', (0.02, 0.1), (30, 60)),
        ('ade20k_100-5', (0.02, 0.05), (30, 60)),
    ],
)
def test_the_rates_are_those_of_the_official_scripts(protocol, rates, epochs):
    for cfg in (
        compose(dict(method='dft_star', protocol=protocol)),
        as_published(compose(dict(method='dft_star', protocol=protocol))),
    ):
        found = [cfg.step_overrides[step] for step in (0, 'later')]
        assert tuple(entry['lr'] for entry in found) == rates
        assert tuple(entry['max_epochs'] for entry in found) == epochs


@pytest.mark.slow
@pytest.mark.walk
def test_it_does_what_every_method_does(tmp_path):
    check_method('dft_star', tmp_path)


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('method', ['mib', 'plop'])
def test_future_rows_walk_with_other_methods(method, tmp_path):
    check_method(method, tmp_path, **{'method.network_change': dict(type='FutureRows')})
