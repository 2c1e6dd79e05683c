"""Walks with VDFD and DFD: what is kept, resuming, processes, and steps out of the ordinary."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.dist import get_rank

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.methods.vdfd.files import load_gradients
from mmseg_cil.methods.vdfd.hook import VDFDHook
from mmseg_cil.testing.processes import in_two_processes
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import assert_same_weights, at, killed, logged, seasons

STRONG = {
    'method.regularisers.0.loss_weight': 10.0,
}
GRAPH = {'method.regularisers.0.covariance': dict(hidden_channels=4, out_channels=8)}


def vdfd_config(data_root, method='vdfd_plain', **changes):
    graph = GRAPH if method == 'vdfd_plain' else {}
    return tiny_config(data_root, method, **{**STRONG, **graph, **changes})


def kept(work_dir, step):
    return load_gradients(work_dir / f'step_{step:02d}' / 'vdfd.pth')[0]


@pytest.fixture(scope='module')
def vdfd_dir(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('vdfd')
    WalkRunner(vdfd_config(data_root), work_dir).run()
    return work_dir


def test_every_step_keeps_the_gradients_of_its_classes(vdfd_dir):
    nodes = [kept(vdfd_dir, step).nodes for step in range(3)]
    assert nodes == [((0,), (1,), (2,)), ((3,),), ((4,),)]
    gradients = kept(vdfd_dir, 1)
    assert not any('auxiliary' in name for name in gradients.names)
    assert 'decode_head.conv_seg.weight' in gradients.names
    assert {name.split('.')[0] for name in gradients.names} == {'backbone', 'decode_head'}
    assert gradients.left.shape[1] == 1 and gradients.left.norm() > 0
    # The kept projection of the weights is that of the checkpoint.
    assert torch.equal(gradients.project(weights(vdfd_dir, 1)), gradients.projection)


def test_losses_are_those_of_the_method(vdfd_dir):
    for step in (1, 2):
        lines = logged(vdfd_dir, step)
        for line in lines:
            parts = [line['decode.loss_ce'], line['aux.loss_ce'], line['regularise.loss_vdfd']]
            assert line['loss'] == pytest.approx(sum(parts), rel=1e-5)
            assert line['regularise.loss_vdfd'] == pytest.approx(
                10.0 * line['regularise.vdfd_quadratic'], rel=1e-4
            )
            # It trains the graph network, and is no part of what trains the network.
            assert line['regularise.apart_vdfd'] == pytest.approx(
                10.0 * line['regularise.vdfd_log_det'], rel=1e-4
            )
        assert lines[-1]['regularise.vdfd_quadratic'] > 0
        # The graph network learns: it alone moves the log-determinant.
        assert lines[-1]['regularise.vdfd_log_det'] < lines[0]['regularise.vdfd_log_det']
    assert logged(vdfd_dir, 1)[0]['regularise.vdfd_quadratic'] == 0
    assert 'regularise.loss_vdfd' not in logged(vdfd_dir, 0)[0]


def test_a_step_leaves_a_plain_checkpoint(vdfd_dir):
    for step in range(3):
        assert all(
            key.split('.')[0] in ('backbone', 'decode_head', 'auxiliary_head')
            for key in weights(vdfd_dir, step)
        )
        assert 'regularisers' not in (vdfd_dir / f'step_{step:02d}/config.py').read_text()


def test_a_killed_step_resumes_bit_by_bit(vdfd_dir, data_root, tmp_path):
    cfg = vdfd_config(data_root)
    with killed(at(step=1, iteration=3)):
        WalkRunner(cfg, tmp_path, start_from=str(vdfd_dir)).run()
    state = torch.load(tmp_path / 'step_01' / 'resume.pth', weights_only=False)
    assert any(key.startswith('regularisers.0.graph_network') for key in state['state_dict'])
    assert len(state['optimizer']['param_groups']) == 2
    WalkRunner(cfg, tmp_path, resume=True).run()
    assert_same_weights(vdfd_dir, tmp_path, 1, 2)
    for step in (1, 2):
        assert torch.equal(kept(vdfd_dir, step).dense(), kept(tmp_path, step).dense())
    ours, theirs = logged(tmp_path, 2)[-1], logged(vdfd_dir, 2)[-1]
    assert ours['regularise.vdfd_log_det'] == theirs['regularise.vdfd_log_det']


ANCHORED = {
    'method.classifier_init': 'balanced',
    'method.regularisers.0.reanchor': True,
    'method.regularisers.0.curvature': 1e3,
    'method.custom_hooks.0.nodes': 'all',
    'method.custom_hooks.0.rank': 2,
}


def test_a_re_anchored_walk_begins_at_0_and_resumes_bit_by_bit(vdfd_dir, data_root, tmp_path):
    cfg = vdfd_config(data_root, **ANCHORED)
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    WalkRunner(cfg, whole, start_from=str(vdfd_dir)).run()
    # Step 2 has a step between the base and itself that trained.
    shutil.copytree(whole, broken)
    shutil.rmtree(broken / 'step_02')
    journal = json.loads((broken / 'journal.json').read_text())
    journal['steps'] = [entry for entry in journal['steps'] if entry['step'] < 2]
    (broken / 'journal.json').write_text(json.dumps(journal))
    with killed(at(step=2, iteration=3)):
        WalkRunner(cfg, broken, resume=True).run()
    WalkRunner(cfg, broken, resume=True).run()
    assert_same_weights(whole, broken, 1, 2)
    lines = [logged(work_dir, 2)[-1]['regularise.vdfd_quadratic'] for work_dir in (whole, broken)]
    assert lines[0] == lines[1] > 0
    assert logged(whole, 1)[0]['regularise.vdfd_quadratic'] == 0
    assert [len(kept(whole, step).nodes) for step in range(3)] == [3, 4, 5]
    moved = [kept(whole, step).moved for step in range(3)]
    assert moved[0] == {} and list(moved[1]) == list(moved[2]) == ['decode_head.conv_seg.bias']
    assert moved[1]['decode_head.conv_seg.bias'][0] == pytest.approx(-math.log(2), rel=1e-5)


def walk_on_a_rank(data_root, start, folder):
    """Step 1; what is kept of it is that of the weights which one process has trained."""
    known = torch.load(f'{start}/step_01/checkpoint.pth', weights_only=True)['state_dict']
    after = VDFDHook.after_step

    def pass_over_known_weights(self, runner):
        model = runner.model.module
        trained = {key: value.clone() for key, value in model.state_dict().items()}
        torch.save(trained, f'{folder}/{get_rank()}.pth')
        model.load_state_dict(known, strict=False)
        after(self, runner)
        model.load_state_dict(trained)

    VDFDHook.after_step = pass_over_known_weights
    WalkRunner(
        vdfd_config(Path(data_root)),
        f'{folder}/walk',
        start_from=str(start),
        launcher='pytorch',
        steps='1',
    ).run()


def test_two_processes_train_alike_and_keep_what_one_keeps(vdfd_dir, data_root, tmp_path):
    in_two_processes(walk_on_a_rank, data_root, vdfd_dir, tmp_path, log=tmp_path / 'log')
    ranks = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    for key, value in ranks[0].items():
        if 'running' not in key:
            assert torch.equal(value, ranks[1][key]), key
    ours, theirs = kept(tmp_path / 'walk', 1), kept(vdfd_dir, 1)
    assert ours.names == theirs.names
    torch.testing.assert_close(ours.dense(), theirs.dense(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(ours.projection, theirs.projection, rtol=1e-4, atol=1e-7)


def test_a_domain_walk_keeps_all_classes_and_the_classifier(data_root, tmp_path):
    cfg = vdfd_config(data_root)
    cfg.protocol = seasons(['early'], ['late', 'last'])
    # Averaged weights are what a step leaves, and so what its gradients are of.
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.3)]
    WalkRunner(cfg, tmp_path).run()
    for step in range(2):
        gradients = kept(tmp_path, step)
        assert gradients.nodes == ((0,), (1,), (2,), (3,), (4,))
        assert 'decode_head.conv_seg.weight' in gradients.names
        assert torch.equal(gradients.project(weights(tmp_path, step)), gradients.projection)
    assert logged(tmp_path, 1)[0]['regularise.vdfd_quadratic'] == 0
    assert logged(tmp_path, 1)[-1]['regularise.vdfd_quadratic'] > 0


def test_dfd_is_a_method_of_its_own(vdfd_dir, data_root, tmp_path):
    cfg = vdfd_config(data_root, 'dfd')
    WalkRunner(cfg, tmp_path, start_from=str(vdfd_dir), steps='1').run()
    line = logged(tmp_path, 1)[-1]
    assert line['regularise.loss_dfd'] > 0 and 'regularise.vdfd_log_det' not in line
    first = logged(tmp_path, 1)[0]
    assert first['loss'] == pytest.approx(first['decode.loss_ce'] + first['aux.loss_ce'])


def test_it_works_beside_other_losses_and_distillers(vdfd_dir, data_root, tmp_path):
    cfg = vdfd_config(data_root)
    mib = tiny_config(data_root, 'mib').method
    cfg.method.update(
        loss_decode=mib.loss_decode,
        distillers=mib.distillers,
        classifier_init='balanced',
        self_supervision=dict(type='RotationSelfSupervision', rotations='random'),
    )
    WalkRunner(cfg, tmp_path, start_from=str(vdfd_dir), steps='1').run()
    for line in logged(tmp_path, 1):
        parts = [
            line[key]
            for key in (
                'decode.loss_unce',
                'aux.loss_unce',
                'distill.loss_unkd',
                'regularise.loss_vdfd',
            )
        ]
        assert line['loss'] == pytest.approx(sum(parts), rel=1e-5)
    # The rows that rotations needed in training are not saved.
    assert weights(tmp_path, 1)['decode_head.conv_seg.weight'].shape[0] == 4
    assert not any('self_supervision' in key for key in weights(tmp_path, 1))


def test_it_works_beside_pseudo_labels(vdfd_dir, data_root, tmp_path):
    plop = tiny_config(data_root, 'plop')
    # The same network and images: the first iteration shows what pseudo-labels alone lose.
    plop.step_overrides['later']['max_iters'] = 1
    WalkRunner(plop, tmp_path / 'plop', start_from=str(vdfd_dir), steps='1').run()
    # Undamped, as published, so that the first penalty can be told by hand.
    cfg = vdfd_config(data_root, **{'method.regularisers.0.damping': 0.0})
    cfg.method.update(
        loss_decode=plop.method.loss_decode,
        distillers=plop.method.distillers,
        classifier_init='balanced',
        custom_hooks=[*cfg.method.custom_hooks, *plop.method.custom_hooks],
    )
    WalkRunner(cfg, tmp_path / 'both', start_from=str(vdfd_dir), steps='1').run()
    own = ('decode.loss_plop', 'aux.loss_plop', 'distill.loss_pod')
    lines, alone = logged(tmp_path / 'both', 1), logged(tmp_path / 'plop', 1)[0]
    for line in lines:
        parts = [line[key] for key in (*own, 'regularise.loss_vdfd')]
        assert line['loss'] == pytest.approx(sum(parts), rel=1e-5)
    assert [lines[0][key] for key in own] == [alone[key] for key in own]
    assert alone['decode.loss_plop'] > 0
    # The new class takes half of the background's probability, and so ln 2 of its mean logit;
    # rows of P have length 1, and eps is 0.001.
    assert lines[0]['regularise.vdfd_quadratic'] == pytest.approx(
        1.001 * math.log(2) ** 2, rel=1e-4
    )
    both, plain = (
        json.loads((tmp_path / name / 'step_01/thresholds.json').read_text())
        for name in ('both', 'plop')
    )
    assert both == plain
    assert kept(tmp_path / 'both', 1).nodes == ((3,),)


def test_a_walk_whose_first_step_does_not_train(data_root, tmp_path):
    cfg = vdfd_config(data_root)
    cfg.protocol.steps = [['background'], ['red', 'green'], ['blue', 'grey']]
    WalkRunner(cfg, tmp_path).run()
    assert not (tmp_path / 'step_00' / 'vdfd.pth').exists()
    assert kept(tmp_path, 1).nodes == ((0,), (1,), (2,))
    assert kept(tmp_path, 2).nodes == ((3,), (4,))
    assert all(line['regularise.loss_vdfd'] == 0 for line in logged(tmp_path, 1))
    assert logged(tmp_path, 2)[-1]['regularise.vdfd_quadratic'] > 0


def test_a_step_0_of_another_method_gets_the_gradients_it_would_have_had(
    vdfd_dir, data_root, tmp_path
):
    WalkRunner(tiny_config(data_root, 'finetune'), tmp_path / 'plain', steps='0').run()
    assert not (tmp_path / 'plain' / 'step_00' / 'vdfd.pth').exists()
    WalkRunner(vdfd_config(data_root), tmp_path / 'vdfd', start_from=str(tmp_path / 'plain')).run()
    assert_same_weights(vdfd_dir, tmp_path / 'plain', 0)
    assert torch.equal(kept(tmp_path / 'vdfd', 0).dense(), kept(vdfd_dir, 0).dense())
    for step in (1, 2):
        theirs = [line['loss'] for line in logged(vdfd_dir, step)]
        assert [line['loss'] for line in logged(tmp_path / 'vdfd', step)] == theirs


def test_a_step_0_kept_with_other_settings_is_kept_anew(vdfd_dir, data_root, tmp_path):
    cfg = vdfd_config(data_root)
    cfg.method.custom_hooks[0].rank = 2
    WalkRunner(cfg, tmp_path, start_from=str(vdfd_dir), steps='0').run()
    assert kept(tmp_path, 0).left.shape[1] == 2
    assert kept(vdfd_dir, 0).left.shape[1] == 1


def test_a_lost_file_of_a_step_that_was_trained_here_is_an_error(data_root, tmp_path):
    cfg = vdfd_config(data_root)
    WalkRunner(cfg, tmp_path, steps='0').run()
    (tmp_path / 'step_00' / 'vdfd.pth').unlink()
    with pytest.raises(InputError, match=r'vdfd\.pth does not exist'):
        WalkRunner(cfg, tmp_path, resume=True).run()
