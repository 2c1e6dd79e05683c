"""Walks with many parts at once: each does its own in the presence of the others."""

import pytest
import torch

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.methods.hinge.class_means import ClassMeans
from mmseg_cil.methods.vdfd.files import load_gradients
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import logged

#: The hooks that keep something come first: fusion must not depend on the order.
EVERYTHING = dict(
    name='everything',
    loss_decode=dict(type='UnbiasedCrossEntropyLoss', loss_weight=1.0),
    regularisers=[
        dict(
            type='VDFDRegulariser',
            loss_weight=10.0,
            covariance=dict(hidden_channels=4, out_channels=8),
        ),
        dict(type='HingeRegulariser', margin=3.0),
    ],
    classifier_init='balanced',
    freezing=dict(norm_statistics=['decode_head']),
    custom_hooks=[dict(type='VDFDHook'), dict(type='ClassMeansHook'), dict(type='EWFHook')],
)


@pytest.fixture(scope='module')
def walked(data_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp('everything')
    cfg = tiny_config(data_root, EVERYTHING)
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.3, update_buffers=True)]
    WalkRunner(cfg, folder, steps='0-1').run()
    return folder


def test_what_is_kept_of_a_step_is_of_its_fused_weights(walked):
    for step in (0, 1):
        state = weights(walked, step)
        kept = load_gradients(walked / f'step_{step:02d}/vdfd.pth')[0]
        assert torch.equal(kept.project(state), kept.projection)
    means = [
        ClassMeans.load(walked / f'step_{step:02d}/class_means.pth')[0].classes for step in (0, 1)
    ]
    assert means == [(0, 1, 2), (3,)]
    for line in logged(walked, 1):
        parts = (
            'decode.loss_unce',
            'aux.loss_unce',
            'regularise.loss_vdfd',
            'regularise.loss_hinge',
        )
        assert line['regularise.loss_hinge'] > 0
        assert line['loss'] == pytest.approx(sum(line[name] for name in parts), rel=1e-5)


def test_held_statistics_are_those_of_the_first_step_fused_or_not(walked):
    before, after = weights(walked, 0), weights(walked, 1)
    for key, value in before.items():
        if key.endswith('running_mean'):
            held = key.startswith('decode_head')
            assert torch.allclose(value, after[key], rtol=1e-6) == held, key


@pytest.mark.slow
@pytest.mark.walk
def test_a_composition_of_everything_is_a_method(tmp_path):
    check_method(EVERYTHING, tmp_path)
