"""NeST in walks: it pre-tunes rows before a step, and does all that every method must do."""

import json

import pytest
import torch

from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.methods.nest.rows import read_rows
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.testing.method_checks import check_method
from mmseg_cil.testing.tiny import tiny_config, weights
from mmseg_cil.testing.walks import assert_same_weights, killed, logged, seasons

LAYER = 'decode_head.conv_seg'


def begun(monkeypatch):
    """The weights that each step begins with, once its network is initialised, by its index."""
    found = {}
    before = IncrementalEncoderDecoder.init_weights

    def init_weights(self):
        before(self)
        if not any('importance' in key for key in self.state_dict()):
            found[self.step.index] = {k: v.clone() for k, v in self.state_dict().items()}

    monkeypatch.setattr(IncrementalEncoderDecoder, 'init_weights', init_weights)
    return found


@pytest.fixture(scope='module')
def walked(data_root, tmp_path_factory):
    """A walk with mib_nest over steps 0 and 1, and the weights that its steps began with."""
    work_dir = tmp_path_factory.mktemp('nest')
    with pytest.MonkeyPatch.context() as patch:
        found = begun(patch)
        WalkRunner(tiny_config(data_root, 'mib_nest'), work_dir, steps='0-1').run()
    return work_dir, found


def rows(work_dir, step=1):
    return read_rows(work_dir / f'step_{step:02d}/pre_tuning/rows.pth')


@pytest.mark.walk
def test_a_step_begins_with_the_rows_that_were_pre_tuned(walked):
    work_dir, found = walked
    old = weights(work_dir, 0)
    for name, layer in rows(work_dir).items():
        assert torch.equal(found[1][f'{name}.weight'].flatten(1), layer['weight'])
        assert torch.equal(found[1][f'{name}.bias'], layer['bias'])
        before, now = old[f'{name}.weight'].flatten(1), layer['weight']
        count = len(before)
        # The background's row has turned but kept its length; other old rows stand still.
        assert torch.equal(now[1:count], before[1:]) and not torch.equal(now[0], before[0])
        assert now[0].norm() == pytest.approx(before[0].norm().item(), rel=1e-5)
        assert now[count:].norm(dim=1).mean() == pytest.approx(
            before.norm(dim=1).mean().item(), rel=1e-5
        )
        assert torch.equal(layer['bias'][:count], old[f'{name}.bias'])
    assert set(rows(work_dir)) == {LAYER, 'auxiliary_head.conv_seg'}
    # Nothing else has moved.
    for key, value in old.items():
        if 'conv_seg' not in key:
            assert torch.equal(found[1][key], value), key


@pytest.mark.walk
def test_the_pre_tuning_is_as_long_as_asked_and_on_record(walked):
    work_dir, _ = walked
    journal = json.loads((work_dir / 'journal.json').read_text())
    record = journal['steps'][1]['sub_steps']['pre_tuning']
    # Five epochs would be longer than the step.
    assert record['iterations'] == 4 and set(record['files']) == {'rows.pth'}
    lines = logged(work_dir, 1, 'pre_tuning')
    assert lines[0]['lr'] == pytest.approx(0.02) and 'decode.loss_unce' in lines[0]
    assert not any('distill' in key for line in lines for key in line)
    assert any('distill' in key for key in logged(work_dir, 1)[0])
    assert not (work_dir / 'step_00/pre_tuning').exists()


@pytest.mark.walk
def test_what_is_killed_goes_on_to_the_same_rows(walked, data_root, tmp_path):
    work_dir, _ = walked
    cfg = tiny_config(data_root, 'mib_nest')

    def in_pre_tuning(hook, runner):
        return 'pre_tuning' in runner.work_dir and runner.iter == 3

    with killed(in_pre_tuning):
        WalkRunner(cfg, tmp_path, start_from=str(work_dir), steps='0-1').run()
    WalkRunner(cfg, tmp_path, start_from=str(work_dir), steps='0-1', resume=True).run()
    for name, layer in rows(work_dir).items():
        assert torch.equal(rows(tmp_path)[name]['weight'], layer['weight'])
    assert_same_weights(work_dir, tmp_path, 1)


@pytest.mark.walk
def test_statistics_move_where_the_official_choices_are_asked_for(
    walked, data_root, tmp_path, monkeypatch
):
    found = begun(monkeypatch)
    cfg = tiny_config(data_root, 'mib_nest_paper')
    WalkRunner(cfg, tmp_path, start_from=str(walked[0]), steps='0-1').run()
    old, began = weights(walked[0], 0), found[1]
    moved = {
        key for key, value in old.items()
        if 'conv_seg' not in key and not torch.equal(began[key], value)
    }  # fmt: skip
    assert moved and all('running' in key or 'num_batches' in key for key in moved)
    assert any(key.startswith('backbone') for key in moved)
    # The new biases as a whole are as long as the old ones together.
    layer = rows(tmp_path)[LAYER]
    count = len(old[f'{LAYER}.bias'])
    assert layer['bias'][count:].norm() == pytest.approx(
        layer['bias'][:count].norm().item(), rel=1e-4
    )


@pytest.mark.walk
def test_plop_holds_the_old_rows_that_were_pre_tuned(walked, data_root, tmp_path, monkeypatch):
    found = begun(monkeypatch)
    cfg = tiny_config(data_root, 'plop_nest')
    assert cfg.method.freezing == dict(old_rows=True)
    WalkRunner(cfg, tmp_path, start_from=str(walked[0]), steps='0-1').run()
    count = len(weights(tmp_path, 0)[f'{LAYER}.weight'])
    for key in ('weight', 'bias'):
        began, ended = found[1][f'{LAYER}.{key}'], weights(tmp_path, 1)[f'{LAYER}.{key}']
        assert torch.equal(began[:count], ended[:count])
        assert not torch.equal(began[count:], ended[count:])
    assert 'decode.loss_unce' in logged(tmp_path, 1, 'pre_tuning')[0]


@pytest.mark.walk
def test_a_rehearsed_walk_passes_and_leaves_no_rows(data_root, tmp_path):
    cfg = tiny_config(data_root, 'mib_nest_paper', rehearsal=True)
    WalkRunner(cfg, tmp_path).prepare()
    assert not list(tmp_path.rglob('rows.pth'))


@pytest.mark.walk
def test_classes_without_background_are_refused_before_training(data_root, tmp_path):
    cfg = tiny_config(data_root, 'mib_nest')
    cfg.method.classifier_init = 'random'
    cfg.protocol.background = 'none'
    with pytest.raises(InputError, match='have no background'):
        WalkRunner(cfg, tmp_path).prepare()


@pytest.mark.walk
def test_by_domain_nothing_is_pre_tuned(data_root, tmp_path):
    cfg = tiny_config(data_root, 'mib_nest')
    cfg.protocol = seasons(['early'], ['late'])
    WalkRunner(cfg, tmp_path).run()
    assert not (tmp_path / 'step_01/pre_tuning').exists()


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('method', ['mib_nest', 'mib_nest_paper', 'plop_nest'])
def test_it_does_what_every_method_does(method, tmp_path):
    check_method(method, tmp_path)
