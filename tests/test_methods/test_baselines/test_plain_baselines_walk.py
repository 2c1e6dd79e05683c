"""Short walks of LwF, LwF-MC and ILT: the parts of the loss, by class and by domain."""

import json

import pytest

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.testing.tiny import CLASSES, tiny_config
from mmseg_cil.testing.walks import logged

PARTS = {
    'lwf': ('decode.loss_ce', {'distill.loss_kd'}),
    'lwf_mc': ('decode.loss_bce', {'distill.loss_sigmoid_kd'}),
    'ilt': ('decode.loss_ce', {'distill.loss_kd', 'distill.loss_features'}),
    'ilt_original': ('decode.loss_ce', {'distill.loss_kd', 'distill.loss_features'}),
}


def short(cfg):
    cfg.step_overrides = {0: dict(max_iters=2), 'later': dict(max_iters=2, lr=0.001)}
    return cfg


@pytest.mark.parametrize('method', PARTS)
def test_the_total_is_the_sum_of_the_parts(method, data_root, tmp_path):
    cfg = short(tiny_config(data_root, method))
    WalkRunner(cfg, tmp_path, steps='0-1').run()
    own, kept = PARTS[method]
    for step, expected in ((0, {own}), (1, {own} | kept)):
        for line in logged(tmp_path, step):
            parts = {key: value for key, value in line.items() if '.loss_' in key}
            assert {key for key in parts if not key.startswith('aux')} == expected
            assert line['loss'] == pytest.approx(sum(parts.values()), rel=1e-4)


@pytest.mark.parametrize('method', ['lwf', 'lwf_mc', 'ilt'])
def test_a_domain_walk_runs(method, data_root, tmp_path):
    cfg = short(tiny_config(data_root, method))
    cfg.protocol = dict(
        name='tiny_domain',
        dataset='tiny',
        domains=[dict(name='even', pattern='*[02468]'), dict(name='odd', pattern='*[13579]')],
        domain_steps=[['even'], ['odd']],
    )
    WalkRunner(cfg, tmp_path).run()
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert [len(step['IoU']) for step in metrics['steps']] == [len(CLASSES)] * 2
    assert PARTS[method][1] <= set(logged(tmp_path, 1)[0])
