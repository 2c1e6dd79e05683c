"""The rehearsal before training: what it finds, and that nothing of it stays."""

import errno
import json
import os
import random
import tempfile

import numpy as np
import pytest
import torch
import torch.distributed as torch_dist
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmseg.models.decode_heads import FCNHead
from PIL import Image
from rehearsed_walks import changed, short, walk_in_two
from torch import nn

from mmseg_cil.contracts import Distiller
from mmseg_cil.engine.preflight import cut_images, rehearsal
from mmseg_cil.engine.preflight.clean_state import alone, clean_state
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.errors import InputError
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import MODELS
from mmseg_cil.testing.processes import in_two_processes
from mmseg_cil.testing.tiny import make_data, tiny_config, tiny_model, weights
from mmseg_cil.testing.walks import assert_same_weights, logged

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
CROP = dict(type='RandomCrop', crop_size=(24, 24))
PACK = dict(type='PackSegInputs')


@MODELS.register_module()
class DistillerOfTwo(Distiller):
    """Calls a module with more arguments than it takes."""

    def forward(self, batch):
        return {'loss_two': nn.ReLU()(batch.student.logits, batch.teacher.logits)}


@MODELS.register_module()
class FixedHead(FCNHead):
    """Gives three scores, however many classes there are."""

    def forward(self, inputs):
        return super().forward(inputs)[:, :3]


@MODELS.register_module()
class NotANumberLoss(nn.Module):
    loss_name = 'loss_lost'

    def __init__(self, loss_weight=1.0):
        super().__init__()

    def forward(self, prediction, *_, **__):
        return prediction.sum() * float('nan')


@MODELS.register_module()
class GreedyLoss(NotANumberLoss):
    def forward(self, prediction, *_, **__):
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB')


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    """Everything temporary is made here, so that one sees whether it stays."""
    folder = tmp_path / 'temporary'
    folder.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(folder))
    return folder


def refused(cfg, work_dir, *texts):
    """Makes sure that a walk is refused with a message that has the texts, and leaves nothing."""
    with pytest.raises(InputError) as caught:
        WalkRunner(cfg, work_dir).prepare()
    for text in texts:
        assert text in str(caught.value)
    assert not (work_dir / 'journal.json').exists() and not list(work_dir.glob('step_*'))
    return str(caught.value)


def state():
    return (
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_rng_state().tolist(),
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        torch.multiprocessing.get_start_method(allow_none=True),
        dict(os.environ),
        [list(kind._instance_dict.items()) for kind in (MMLogger, MessageHub, DefaultScope)],
    )


def test_nothing_of_it_stays(data_root, tmp_path, temporary_folder, capsys):
    cfg = tiny_config(
        data_root, env_cfg=dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='spawn'))
    )
    walk = WalkRunner(cfg, tmp_path / 'w').open().walk
    capsys.readouterr()
    files, before = sorted((tmp_path / 'w').rglob('*')), state()
    rehearsal.rehearse(walk, [0, 1, 2])
    assert state() == before
    assert sorted((tmp_path / 'w').rglob('*')) == files
    assert not list(temporary_folder.glob('mmseg_cil*'))
    output = capsys.readouterr()
    assert output.out.startswith('rehearsal: a batch of step 0 and of step 2 trained and tested')
    assert output.out.count('\n') == 1


@pytest.mark.parametrize(
    'method',
    [
        'mib',
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                'finetune',
                'vdfd_plain',
                'plop',
                'rcil',
                'm2kd',
                'm2kd_pruned',
                'dfgr',
                'dfgr_dtid',
                'icarl',
            )
        ),
    ],
)
def test_a_walk_is_the_same_with_it_and_without(data_root, tmp_path, method):
    for name, on in (('with', True), ('without', False)):
        cfg = short(tiny_config(data_root, method, rehearsal=on))
        torch.manual_seed(5)
        scheduler = WalkRunner(cfg, tmp_path / name).open()
        assert torch.initial_seed() == 5
        scheduler.run()
    rehearsed, plain = tmp_path / 'with', tmp_path / 'without'
    assert_same_weights(rehearsed, plain, 0, 1, 2)
    assert json.loads((rehearsed / 'metrics.json').read_text()) == json.loads(
        (plain / 'metrics.json').read_text()
    )

    def losses(folder, step):
        return [
            {key: value for key, value in line.items() if 'time' not in key}
            for line in logged(folder, step)
        ]

    assert [losses(rehearsed, step) for step in range(3)] == [
        losses(plain, step) for step in range(3)
    ]
    assert sorted(path.name for path in rehearsed.iterdir()) == sorted(
        path.name for path in plain.iterdir()
    )


@pytest.mark.parametrize(
    ('changes', 'texts'),
    [
        (
            {'method.distillers': [dict(type='DistillerOfTwo')]},
            (
                'step 2',
                'the forward pass',
                'TypeError',
                'ReLU.forward() takes 2',
                'batch.student and batch.teacher',
            ),
        ),
        (
            {'test_dataloader.dataset.pipeline': [*LOAD, dict(PACK, meta_keys=('img_path',))]},
            ('step 0', 'predicting a test batch', 'KeyError: ori_shape', 'meta_keys'),
        ),
        (
            {
                'train_dataloader.dataset.pipeline': [
                    dict(type='LoadImageFromFile', color_type='grayscale'),
                    LOAD[1],
                    CROP,
                    PACK,
                ]
            },
            ('reading a test batch', '3 bands', 'images of 1'),
        ),
        (
            {'model.backbone.in_channels': 4},
            ('step 0', 'the forward pass', 'to have 4 channels', 'in_channels'),
        ),
        (
            {'model.decode_head.type': 'FixedHead'},
            ('step 2', 'the forward pass', 'another number of scores than the classes'),
        ),
        (
            {
                'train_dataloader.dataset.pipeline': [*LOAD, PACK],
                'model.data_preprocessor.size': None,
            },
            ('step 0', 'the forward pass', 'data_preprocessor.size=(H, W)'),
        ),
        (
            {'model.test_cfg': dict(mode='slide')},
            ('step 0', 'predicting a test batch', 'stride', 'crop_size=(H, W)'),
        ),
        ({'model.test_cfg': dict(mode='slde')}, ('predicting a test batch', "mode='slide'")),
        (
            {'optim_wrapper.optimizer.lr': 1e38},
            ('the optimizer step', 'not finite', 'learning rate'),
        ),
        (
            {'method.loss_decode': dict(type='NotANumberLoss')},
            ('step 0', 'the forward pass', 'decode.loss_lost = nan'),
        ),
        (
            {'method.loss_decode': dict(type='GreedyLoss')},
            (
                'step 0 needs more memory',
                'the forward pass',
                'Tried to allocate 20.00 GiB',
                'global_batch_size',
            ),
        ),
    ],
)
def test_what_would_fail_later_is_refused_at_once(data_root, tmp_path, changes, texts):
    message = refused(changed(data_root, changes), tmp_path / 'w', *texts)
    assert '--no-rehearsal' in message


@pytest.mark.walk
def test_odd_sizes_are_found_though_the_first_images_are_even(tmp_path):
    data = make_data(tmp_path / 'data')
    for folder in ('images', 'masks'):
        for number in range(8):
            path = data / folder / f'val_{number:03d}.png'
            size = (48, 32) if number != 5 else (47, 32)
            Image.open(path).crop((0, 0, *size)).save(path)
    network = dict(
        tiny_model(),
        backbone=dict(type='UNet', base_channels=4),
        auxiliary_head=None,
        decode_head=dict(tiny_model()['decode_head'], in_channels=4, in_index=4),
    )
    network['data_preprocessor']['size'] = (32, 32)
    cfg = changed(data, {'model': network})
    refused(cfg, tmp_path / 'w', 'predicting a test batch', '(32, 47)', 'size_divisor=32')
    cfg.model.data_preprocessor.test_cfg = dict(size_divisor=16)
    WalkRunner(cfg, tmp_path / 'w').open()


@pytest.mark.walk
def test_test_images_of_different_sizes_share_a_batch(tmp_path):
    data = make_data(tmp_path / 'data')
    for folder in ('images', 'masks'):
        for number in range(0, 8, 2):
            path = data / folder / f'val_{number:03d}.png'
            Image.open(path).crop((0, 0, 33, 31)).save(path)
    scores = []
    for batch in (1, 3):
        cfg = short(changed(data, {'test_dataloader.batch_size': batch}))
        WalkRunner(cfg, tmp_path / f'{batch}', steps='0').run()
        scores.append(json.loads((tmp_path / f'{batch}/metrics.json').read_text()))
    assert scores[0] == scores[1]


def rehearsed_steps(monkeypatch):
    called = []
    monkeypatch.setattr(
        'mmseg_cil.engine.walk_runner.rehearse', lambda walk, steps: called.append(steps)
    )
    return called


def test_what_is_trained_is_what_is_rehearsed(data_root, tmp_path, monkeypatch):
    called = rehearsed_steps(monkeypatch)
    cfg = short(tiny_config(data_root, 'finetune', rehearsal=True))
    WalkRunner(cfg, tmp_path / 'w', steps='0').run()
    WalkRunner(cfg, tmp_path / 'w', resume=True).open()
    WalkRunner(cfg, tmp_path / 'other', start_from=str(tmp_path / 'w'), steps='0-1').open()
    WalkRunner(cfg, tmp_path / 'w', resume=True, steps='0').open()
    cfg.rehearsal = False
    WalkRunner(cfg, tmp_path / 'off').open()
    assert called == [[0], [1, 2], [1], []]


def test_with_nothing_to_train_there_is_none(data_root, tmp_path, capsys):
    walk = WalkRunner(tiny_config(data_root), tmp_path / 'w').open().walk
    rehearsal.rehearse(walk, [])
    assert 'rehearsal' not in capsys.readouterr().out


@pytest.mark.parametrize(
    'method',
    [
        'vdfd',
        *(pytest.param(name, marks=pytest.mark.slow) for name in ('plop', 'm2kd', 'icarl', 'rcil')),
    ],
)
def test_later_steps_alone_are_rehearsed_from_the_weights_at_hand(data_root, tmp_path, method):
    walk = WalkRunner(tiny_config(data_root, method), tmp_path / 'w').open().walk
    rehearsal.rehearse(walk, [1, 2])


def test_steps_without_images_and_short_ones_are_no_problem(data_root, tmp_path):
    steps = [['background'], ['red', 'green'], ['blue', 'grey']]
    for changes in (
        {'protocol.steps': steps},
        {'global_batch_size': 64, 'train_dataloader.batch_size': 64},
    ):
        WalkRunner(changed(data_root, changes), tmp_path / str(len(changes))).open()


def test_the_key_takes_a_truth_value(data_root, tmp_path):
    with pytest.raises(InputError, match="rehearsal is 'no'; use True or False"):
        WalkRunner(tiny_config(data_root, rehearsal='no'), tmp_path / 'w').prepare()


def test_the_state_is_put_back_after_an_error_too():
    before = state()
    with pytest.raises(KeyError), clean_state():
        random.random(), np.random.random(), torch.rand(1)
        os.environ['OF_A_TRIAL'] = '1'
        MMLogger.get_instance('of a trial')
        torch.use_deterministic_algorithms(True)
        raise KeyError
    assert state() == before


def test_a_process_alone_is_in_no_group(monkeypatch):
    monkeypatch.setattr(torch_dist, 'is_initialized', lambda: True)
    with alone():
        assert not torch_dist.is_initialized()
    assert torch_dist.is_initialized()


@pytest.mark.slow
def test_two_processes_rehearse_without_waiting_for_each_other(data_root, tmp_path):
    for kind in ('refused', 'with', 'without', 'unused'):
        in_two_processes(walk_in_two, data_root, tmp_path / kind, kind, log=tmp_path / kind)
    assert_same_weights(tmp_path / 'with', tmp_path / 'without', 0, 1, 2)
    assert len(weights(tmp_path / 'with', 2)) > 0


def test_without_space_there_is_a_note_and_no_refusal(data_root, tmp_path, monkeypatch, capsys):
    def full(model, folder, meta):
        raise OSError(errno.ENOSPC, 'No space left on device', str(folder))

    walk = WalkRunner(tiny_config(data_root), tmp_path / 'w').open().walk
    capsys.readouterr()
    monkeypatch.setattr('mmseg_cil.engine.preflight.stand_ins.export_checkpoint', full)
    rehearsal.rehearse(walk, [0, 1, 2])
    assert (
        'note: step 2 is not rehearsed, for it would need more space in' in capsys.readouterr().out
    )
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'none'))
    rehearsal.rehearse(walk, [0, 1, 2])
    assert 'note: there is no rehearsal, for it needs a temporary folder' in capsys.readouterr().out


def test_parameters_that_nothing_depends_on_are_no_trouble_to_several_processes(
    data_root, tmp_path, monkeypatch, capsys
):
    network = tiny_model()
    # A stage that no head reads.
    network['decode_head'].update(in_index=2, in_channels=16)
    network['auxiliary_head'].update(in_index=1, in_channels=8)
    cfg = changed(data_root, {'model': network}, 'finetune')
    cfg.rehearsal = False
    walk = WalkRunner(cfg, tmp_path / 'w').open().walk
    for processes, expected in ((1, None), (2, True)):
        monkeypatch.setattr(rehearsal, 'get_world_size', lambda n=processes: n)
        rehearsal.rehearse(walk, [0])
        assert walk.cfg.get('find_unused_parameters') is expected
    assert 'do not depend on backbone.layer4.0.conv1.weight' in capsys.readouterr().out


def test_what_is_too_small_when_cut_is_tried_whole(data_root, tmp_path, monkeypatch):
    widths = []
    monkeypatch.setattr(cut_images, 'LONGEST', 8)
    monkeypatch.setattr(cut_images, 'GRID', 8)
    forward = IncrementalEncoderDecoder.extract_feat

    def fussy(self, inputs):
        widths.append(inputs.shape[-1])
        if inputs.shape[-1] < 24:
            raise RuntimeError('too small')
        return forward(self, inputs)

    monkeypatch.setattr(IncrementalEncoderDecoder, 'extract_feat', fussy)
    walk = WalkRunner(tiny_config(data_root, 'finetune'), tmp_path / 'w').open().walk
    rehearsal.rehearse(walk, [0])
    assert widths[:2] == [8, 24] and min(widths[1:]) == 24
