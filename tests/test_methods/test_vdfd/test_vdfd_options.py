"""VDFD's options over two later steps, the first of which learns nothing."""

import math

import pytest
import torch
from test_vdfd_walk import kept, vdfd_config

from mmseg_cil.engine.config.mixed_precision import use_mixed_precision
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.methods.vdfd.vdfd_regulariser import VDFDRegulariser
from mmseg_cil.testing.tiny import weights
from mmseg_cil.testing.walks import logged

#: As officially, which is also what its undamped penalty needs.
ADAM = {'optim_wrapper.optimizer': dict(_delete_=True, type='Adam', lr=1e-3)}
HOOK = 'method.custom_hooks.0.'
PLAIN = [((0,), (1,), (2,)), ((3,),), ((4,),)]


def config(data_root, method='vdfd_plain', **changes):
    """Step 1 has a learning rate of 0: step 2 begins with the weights that step 0 ended with."""
    cfg = vdfd_config(data_root, method, **changes)
    last = 1e-3 if cfg.optim_wrapper.optimizer.type == 'Adam' else 0.02
    cfg.step_overrides = {
        0: dict(max_iters=6),
        1: dict(lr=0.0, max_iters=2),
        2: dict(lr=last, max_iters=2),
    }
    return cfg


@pytest.fixture(scope='module')
def first_step(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('first')
    WalkRunner(config(data_root), work_dir, steps='0').run()
    return work_dir


def check_walk(work_dir):
    """Nothing has changed where a later step begins; what the last one learns changes it."""
    before, after = weights(work_dir, 0), weights(work_dir, 1)
    for key, value in before.items():
        if 'running' not in key and 'num_batches' not in key:
            assert torch.equal(after[key][: len(value)], value), key
    assert logged(work_dir, 1)[0]['regularise.vdfd_quadratic'] == 0
    assert logged(work_dir, 1)[-1]['regularise.vdfd_quadratic'] == 0
    first, last = logged(work_dir, 2)[0], logged(work_dir, 2)[-1]
    assert first['regularise.vdfd_quadratic'] == 0
    assert last['regularise.vdfd_quadratic'] > 0 and math.isfinite(last['loss'])


@pytest.mark.parametrize(
    ('method', 'changes', 'nodes', 'cells'),
    [
        pytest.param(
            'vdfd_plain',
            {f'{HOOK}outputs': 'grid', f'{HOOK}background': 'exclude'},
            [((1,), (2,)), ((3,),), ((4,),)],
            4,
            marks=pytest.mark.slow,
        ),
        # After so little training the background is all that is predicted.
        pytest.param(
            'vdfd_plain',
            {f'{HOOK}outputs': 'predicted', f'{HOOK}background': 'merge'},
            [((0,), (1,), (2,)), ((0, 3), (3,)), ((0, 3, 4), (4,))],
            1,
            marks=pytest.mark.slow,
        ),
        ('vdfd_plain', {f'{HOOK}average': False}, PLAIN, 1),
        pytest.param(
            'vdfd_plain',
            {f'{HOOK}outputs': 'conditional', f'{HOOK}nodes': 'all', f'{HOOK}rank': 2},
            [tuple((i,) for i in range(count)) for count in (3, 4, 5)],
            (3, 4, 5),
            marks=pytest.mark.slow,
        ),
        pytest.param('vdfd_plain', {f'{HOOK}sketches': 2}, PLAIN, 3, marks=pytest.mark.slow),
        pytest.param('vdfd_official', ADAM, PLAIN, 1, marks=pytest.mark.slow),
    ],
    ids=[
        'grid, exclude',
        'predicted, merge',
        'single weights',
        'conditional',
        'sketches',
        'official',
    ],
)
def test_a_walk_with_every_option(first_step, data_root, tmp_path, method, changes, nodes, cells):
    cfg = config(data_root, method, **changes)
    WalkRunner(cfg, tmp_path, start_from=str(first_step)).run()
    check_walk(tmp_path)
    steps = [kept(tmp_path, step) for step in range(3)]
    assert [gradients.nodes for gradients in steps] == nodes
    assert [gradients.cells for gradients in steps] == list(
        cells if isinstance(cells, tuple) else [cells] * 3
    )


def test_a_walk_in_mixed_precision(first_step, data_root, tmp_path, monkeypatch):
    """The network is of bfloat16; the penalty and what is kept are not."""
    seen, forward = [], VDFDRegulariser.forward

    def record(self, network):
        losses = forward(self, network)
        seen.append((torch.is_autocast_enabled('cpu'), losses['loss_vdfd'].dtype))
        return losses

    monkeypatch.setattr(VDFDRegulariser, 'forward', record)
    cfg = config(data_root)
    use_mixed_precision(cfg, accelerator=False)
    WalkRunner(cfg, tmp_path, start_from=str(first_step)).run()
    assert seen == [(True, torch.float32)] * 4
    check_walk(tmp_path)
    gradients = kept(tmp_path, 1)
    assert torch.equal(gradients.project(weights(tmp_path, 1)), gradients.projection)
