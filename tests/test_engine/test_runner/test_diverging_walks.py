"""A walk whose training diverges ends with a word, and leaves nothing that is not finite."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from mmengine.dist import get_rank
from torch import nn

from mmseg_cil.engine.evaluate import evaluate_step
from mmseg_cil.engine.record.fingerprint import file_hash
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.hooks import FiniteLossHook
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.testing.processes import in_two_processes
from mmseg_cil.testing.tiny import tiny_config
from mmseg_cil.testing.walks import assert_same_weights
from mmseg_cil.utils.finite import not_finite

NAN = float('nan')


def spoil(monkeypatch, step, iteration, change):
    """From now on the losses of an iteration of a step are changed in place."""
    own, count = IncrementalEncoderDecoder.loss, []

    def loss(self, *args, **kwargs):
        losses = own(self, *args, **kwargs)
        if self.step.index == step:
            count.append(0)
            if len(count) == iteration:
                change(self, losses)
        return losses

    monkeypatch.setattr(IncrementalEncoderDecoder, 'loss', loss)


def to_nan(model, losses):
    losses['aux.loss_unce'] = losses['aux.loss_unce'] * NAN


def spoil_gradients(model, losses):
    """The loss is finite, its gradient is not."""
    model.backbone.conv1.weight.register_hook(lambda gradient: gradient * NAN)


@pytest.fixture(scope='module')
def unbroken(data_root, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('unbroken')
    WalkRunner(tiny_config(data_root), work_dir, steps='0-1').run()
    return work_dir


def step_1(data_root, unbroken, work_dir, **options):
    return WalkRunner(
        tiny_config(data_root), work_dir, start_from=str(unbroken), steps='1', **options
    ).open()


def test_the_first_bad_loss_ends_the_walk_which_goes_on_from_the_state_before(
    data_root, unbroken, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch, pytest.raises(InputError) as caught:
        spoil(patch, 1, 4, to_nan)
        step_1(data_root, unbroken, tmp_path).run()
    text = str(caught.value)
    assert 'step 1: training has diverged. At iteration 4 of 4 the loss is nan' in text
    assert '(aux.loss_unce nan, decode.loss_unce ' in text and 'distill.loss_unkd' in text
    assert f'{tmp_path}/step_01/resume.pth' in text
    assert not list(tmp_path.glob('step_01/checkpoint.pth'))
    state = torch.load(tmp_path / 'step_01/resume.pth', weights_only=False)
    assert state['meta']['iter'] == 2 and not not_finite(state['state_dict'])
    WalkRunner(tiny_config(data_root), tmp_path, resume=True, steps='1').run()
    assert_same_weights(unbroken, tmp_path, 1)


@pytest.mark.parametrize(
    ('iteration', 'saved'),
    [
        # Seen when the state is to be saved, in the next loss, and when the step is exported.
        pytest.param(2, None, marks=pytest.mark.slow),
        pytest.param(3, 2, marks=pytest.mark.slow),
        (4, 2),
    ],
)
def test_weights_that_are_not_finite_are_not_kept(
    data_root, unbroken, tmp_path, monkeypatch, iteration, saved
):
    spoil(monkeypatch, 1, iteration, spoil_gradients)
    with pytest.raises(InputError, match=r'step 1.*training has diverged'):
        step_1(data_root, unbroken, tmp_path).run()
    assert not list(tmp_path.glob('step_01/checkpoint.pth'))
    path = tmp_path / 'step_01/resume.pth'
    assert path.is_file() == (saved is not None)
    if saved:
        state = torch.load(path, weights_only=False)
        assert state['meta']['iter'] == saved and not not_finite(state['state_dict'])


@pytest.mark.slow
def test_a_sub_step_ends_likewise(data_root, unbroken, tmp_path, monkeypatch):
    cfg = tiny_config(data_root)
    cfg.method.sub_steps = [dict(type='NewDataSubStep', max_iters=3)]
    spoil(
        monkeypatch,
        0,
        3,
        lambda model, losses: losses.update({'decode.loss_ce': losses['decode.loss_ce'] / 0}),
    )
    with pytest.raises(
        InputError,
        match=r'step 1, sub-step new_data: training has diverged. At '
        r'iteration 3 of 3 the loss is inf \(decode.loss_ce inf',
    ):
        WalkRunner(cfg, tmp_path, start_from=str(unbroken), steps='1').run()
    assert not list(tmp_path.glob('step_01/new_data/checkpoint.pth'))


def with_bad_weights(source, target, step, key, value):
    """A copy of a walk that an earlier version has let diverge: recorded as finished."""
    shutil.copytree(source, target)
    path = target / f'step_{step:02d}/checkpoint.pth'
    content = torch.load(path, weights_only=True)
    content['state_dict'][key].view(-1)[0] = value
    torch.save(content, path)
    journal = json.loads((target / 'journal.json').read_text())
    journal['steps'][step]['checkpoint_sha256'] = file_hash(path)
    (target / 'journal.json').write_text(json.dumps(journal))
    return target


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('backbone.conv1.weight', NAN),
        pytest.param('decode_head.convs.0.bn.running_var', float('inf'), marks=pytest.mark.slow),
    ],
)
def test_nothing_is_made_of_a_checkpoint_that_is_not_finite(
    data_root, unbroken, tmp_path, key, value
):
    bad = with_bad_weights(unbroken, tmp_path / 'bad', 1, key, value)
    message = f'checkpoint.pth: {key} hold NaN or infinity'
    with pytest.raises(InputError, match=message):
        WalkRunner(tiny_config(data_root), bad, resume=True, steps='2').run()
    with pytest.raises(InputError, match=message):
        WalkRunner(tiny_config(data_root), tmp_path / 'new', start_from=f'{bad}:1').prepare()
    assert not (tmp_path / 'new').exists()
    walk = WalkRunner(tiny_config(data_root), bad, resume=True).open()
    with pytest.raises(InputError, match=message):
        evaluate_step(walk.walk, walk.journal, 1, 'none')
    # The step before is as good as ever.
    WalkRunner(tiny_config(data_root), tmp_path / 'new', start_from=f'{bad}:0').open()


@pytest.mark.slow
def test_a_state_that_is_not_finite_is_not_resumed(data_root, unbroken, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(InputError):
        spoil(patch, 1, 4, to_nan)
        step_1(data_root, unbroken, tmp_path).run()
    path = tmp_path / 'step_01/resume.pth'
    content = torch.load(path, weights_only=False)
    content['state_dict']['backbone.conv1.weight'][0] = NAN
    torch.save(content, path)
    with pytest.raises(InputError, match=r'its weights are not finite \(backbone.conv1.weight\)'):
        WalkRunner(tiny_config(data_root), tmp_path, resume=True, steps='1').run()
    path.unlink()
    WalkRunner(tiny_config(data_root), tmp_path, resume=True, steps='1').run()
    assert_same_weights(unbroken, tmp_path, 1)


def diverge_in_one(data, folder):
    """In the second process a loss, then a statistic, is not finite; both must end alike."""
    runner = SimpleNamespace(
        model=nn.BatchNorm2d(2),
        iter=0,
        max_iters=9,
        hooks=[],
        work_dir='w',
        optim_wrapper=SimpleNamespace(get_lr=lambda: dict(lr=[0.1])),
    )
    hook, bad = FiniteLossHook(0, interval=3), NAN if get_rank() else 1.0
    with pytest.raises(InputError, match=r'At iteration 2 of 9 the loss is nan \(loss_a nan\)'):
        for runner.iter, value in enumerate([1.0, bad, 1.0]):
            hook.before_train_iter(runner, runner.iter)
            losses = dict(loss=torch.tensor(value), loss_a=torch.tensor(value))
            hook.after_train_iter(runner, runner.iter, None, losses)
    assert runner.iter == 2
    runner.model.running_mean[0] = bad
    with pytest.raises(InputError, match='hold NaN or infinity'):
        FiniteLossHook(0).check_state(runner)


@pytest.mark.slow
def test_all_processes_end_where_one_diverges(tmp_path):
    in_two_processes(diverge_in_one, tmp_path, tmp_path, log=tmp_path / 'log')
