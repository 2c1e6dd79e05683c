"""A method with a classifier a step, an output that is no class and a rule of its own walks."""

import copy
import json

import pytest
import ssul_stub  # noqa: F401
import torch
from ssul_stub import UnknownIsBackground, UnknownLoss

from mmseg_cil.engine.preflight.prepare import prepare_walk
from mmseg_cil.engine.runner.scoring import score_weights
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.models.teacher import load_plain_state
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import assert_same_weights, at, killed, logged

METHOD = dict(
    name='ssul_stub',
    loss_decode=dict(type='UnknownLoss'),
    network_change=dict(type='ClassifiersOfSteps'),
    prediction=dict(type='UnknownIsBackground'),
    further_map=dict(type='BrightIsSalient'),
)


@pytest.fixture(scope='module')
def cfg(data_root):
    cfg = tiny_config(data_root, 'finetune', rehearsal=True)
    cfg.method = METHOD
    cfg.step_overrides = {0: dict(max_iters=4), 'later': dict(max_iters=4)}
    return cfg


@pytest.fixture(scope='module')
def walked(cfg, tmp_path_factory):
    """The work directory of two steps, and the targets that the losses saw."""
    folder, seen, before = tmp_path_factory.mktemp('ssul'), set(), UnknownLoss.forward

    def keep(self, *args, **kwargs):
        loss = before(self, *args, **kwargs)
        seen.add((self._step.index, *sorted(self.seen)))
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UnknownLoss, 'forward', keep)
        WalkRunner(cfg, folder, steps='0-1').run()
    return folder, seen


def test_it_learns_an_output_that_is_no_class(walked):
    folder, seen = walked
    # Three and four classes, then the unknown; old classes are those of the last step.
    assert {3} <= {target for step, *targets in seen for target in targets if step == 0}
    assert {4} <= {target for step, *targets in seen for target in targets if step == 1}
    for step in range(2):
        assert all(0 < line['decode.loss_unknown'] < 10 for line in logged(folder, step))
        unknown = torch.load(folder / f'step_{step:02d}/network_change.pth', weights_only=True)
        assert unknown['weight'].shape == (1, 8, 1, 1)


def test_what_it_leaves_is_plain_and_what_is_old_is_frozen(walked):
    first, second = weights(walked[0], 0), weights(walked[0], 1)
    assert first.keys() == second.keys()
    assert [len(state['decode_head.conv_seg.weight']) for state in (first, second)] == [3, 4]
    for key, value in first.items():
        old = second[key][:3] if 'decode_head.conv_seg' in key else second[key]
        if key.startswith('backbone.') or 'decode_head.conv_seg' in key:
            assert torch.equal(old, value), key
    name = 'decode_head.convs.0.conv.weight'
    assert not torch.equal(first[name], second[name])


def test_a_killed_step_goes_on_with_its_unknown(walked, cfg, tmp_path):
    folder, _ = walked
    cfg = copy.deepcopy(cfg)
    cfg.rehearsal = False
    with killed(at(step=1, iteration=3)):
        WalkRunner(cfg, tmp_path, start_from=str(folder), steps='1').run()
    assert (tmp_path / 'step_01/resume.pth').is_file()
    WalkRunner(cfg, tmp_path, resume=True, steps='1').run()
    assert_same_weights(folder, tmp_path, 1)
    whole, broken = (
        torch.load(work_dir / 'step_01/network_change.pth', weights_only=True)
        for work_dir in (folder, tmp_path)
    )
    assert whole.keys() == broken.keys() == {'weight', 'bias'}
    assert all(torch.equal(value, broken[key]) for key, value in whole.items())


def test_a_finished_step_is_scored_by_the_rule_again(walked, cfg, tmp_path, monkeypatch):
    folder, _ = walked
    walk = prepare_walk(cfg, tmp_path)
    extra, rule = set(), UnknownIsBackground.__call__

    def keep(self, logits, num_classes):
        extra.add(logits.shape[1] - num_classes)
        return rule(self, logits, num_classes)

    monkeypatch.setattr(UnknownIsBackground, '__call__', keep)
    for step in range(2):
        path = folder / f'step_{step:02d}/checkpoint.pth'
        state = load_plain_state(path, 3 + step)
        found = score_weights(walk, step, state, path, 'none')
        metrics = json.loads((folder / f'step_{step:02d}/metrics.json').read_text())
        assert found['mIoU'] == metrics['mIoU']
    assert extra == {1}
    text = (folder / 'step_01/config.py').read_text()
    assert 'predicts by UnknownIsBackground' in text and 'ClassifiersOfSteps' not in text


def test_the_rule_takes_the_unknown_for_background():
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0]).view(1, 4, 1, 1)
    assert UnknownIsBackground()(logits, 3).argmax(1).item() == 0
    assert UnknownIsBackground()(logits[:, :3], 3).argmax(1).item() == 1
