"""No training iteration of ours makes the CPU wait for the device.

Nothing asks for a tensor's content, and copies to the device are queued there.
"""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import RuntimeInfoHook
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_cil.engine.config.protocol_pieces import settled
from mmseg_cil.engine.runner.message_hub import DeferredMessageHub
from mmseg_cil.methods.dfgr.layout_generator import LayoutGenerator
from mmseg_cil.testing.networks import base_step, batch, network, next_step, segmentor, snapshot

METHODS = sorted(Path(__file__).parents[2].glob('configs/_base_/methods/*.py'))
#: Methods that are looked at whenever the tests run; the variants of their parts on request.
LOOKED_AT = (
    'caf',
    'dfgr_dtid',
    'dft_star',
    'dkd',
    'dkd_decomposed',
    'finetune',
    'icarl',
    'ilt',
    'lgkd',
    'lgkd_mib',
    'lwf',
    'lwf_mc',
    'm2kd',
    'mib',
    'mib_ucd',
    'mib_ucd_paper',
    'plop',
    'rcil',
    'reminder',
    'sdr',
    'sdr_paper',
    'star',
    'vdfd',
    'vdfd_ssl',
    'vdfd_step_ce',
)
#: Operators whose result, or its size, is known only once the device has computed it.
WAITING = {
    '_local_scalar_dense',
    'is_nonzero',
    'nonzero',
    'nonzero_static',
    'masked_select',
    'equal',
    'bincount',
    'histc',
    'allclose',
    'unique_dim',
    '_unique',
    '_unique2',
    'unique_consecutive',
    '_linalg_check_errors',
}


class Waits(TorchDispatchMode):
    """Notes every operator that waits for the device, indexing with a mask included."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        masks = name in ('index', 'index_put', 'index_put_', '_unsafe_index') and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in arguments[1]
        )
        if name in WAITING or masks:
            self.seen.append(name)
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize(
    'waiting',
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.unique(),
        lambda x: torch.linalg.cholesky(x.diag() + 1),
    ],
)
def test_what_waits_is_noticed(waiting):
    with Waits() as waits:
        waiting(torch.arange(3.0))
    assert waits.seen


def method_model(path, folder, data, build, device='cpu'):
    """The segmentor of a method at step 1 (3 old classes, 2 new ones), ready to train."""
    init_default_scope('mmseg_cil')
    config, checkpoint = network(auxiliary='single'), folder / 'step.pth'
    base_step(config, checkpoint)
    method = settled(Config.fromfile(path).method, 'voc_19-1')
    return build(method, config, (3, 2), snapshot(checkpoint, 3), data, device).train()


def data_of(replays):
    """A batch, with an exemplar in it or without."""
    images, samples = batch(5, size=64)
    if replays:
        samples[0].set_metainfo(dict(cil_hidden=()))
    return dict(inputs=list(images), data_samples=samples)


@pytest.mark.parametrize(
    ('path', 'replays'),
    [
        pytest.param(
            path,
            replays,
            # Between them these have each kind of loss, regulariser and distiller.
            marks=pytest.mark.slow if path.stem not in LOOKED_AT else (),
            id=f'{path.stem}-{"replays" if replays else "alone"}',
        )
        for path in METHODS
        for replays in (False, True)
    ],
)
def test_no_iteration_waits(path, replays, tmp_path, benchmark_module):
    # Large enough for the official regions of Local POD: a quarter of the last map is a pixel.
    data = data_of(replays)
    model = method_model(path, tmp_path, data, benchmark_module('step').segmentor_of)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
    hub = DeferredMessageHub('step')
    with Waits() as waits:
        losses = model.train_step(data, optimizer)
        # The Runner's hooks log every loss next.
        RuntimeInfoHook().after_train_iter(SimpleNamespace(message_hub=hub), 0, data, losses)
    assert torch.isfinite(losses['loss'])
    assert waits.seen == []
    assert hub.get_scalar('train/loss').current() == losses['loss'].item()


def test_no_iteration_of_a_pre_tuning_waits(tmp_path):
    base_step(network(auxiliary='single'), tmp_path / 'step.pth')
    model = next_step(
        network(auxiliary='single'),
        tmp_path / 'step.pth',
        distillers=(),
        network_change=dict(type='ClassifierPreTuning'),
        freezing=dict(norm_statistics=['*']),
    ).train()
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
    with Waits() as waits:
        losses = model.train_step(data_of(False), optimizer)
    assert torch.isfinite(losses['loss']) and waits.seen == []


@pytest.mark.parametrize('dtype', ['run', 'bfloat16'])
def test_no_teacher_waits_in_any_form(dtype, tmp_path, benchmark_module):
    data, path = data_of(False), tmp_path / 'step.pth'
    config = network(auxiliary='single')
    base_step(config, path)
    form = dict(fold_norms=True, channels_last=True, dtype=dtype)
    model = next_step(config, path, teacher_form=form).train()
    for enabled in (False, True, True):
        batch = model.data_preprocessor(copy.deepcopy(data), True)
        with Waits() as waits, torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            model.teacher(batch['inputs'], True, True)
        assert waits.seen == []


class BlockingCopies(TorchDispatchMode):
    """Notes copies of the CPU's tensors to the device: whether the CPU waits for them."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if (
            function.overloadpacket.__name__ == '_to_copy'
            and arguments[0].device.type != result.device.type
        ):
            self.seen.append(not (keywords or {}).get('non_blocking', False))
        return result


def rotating(folder):
    return segmentor(network(), [5], self_supervision=dict(type='RotationSelfSupervision'))


def replaying(folder, **options):
    """The step after the first one, with generated images (and an exemplar, if the batch has)."""
    base_step(network(), folder / 'step.pth')
    generator = dict(num_classes=3, size=(64, 64))
    torch.save(dict(state_dict=LayoutGenerator(**generator).state_dict()), folder / 'replay.pth')
    return next_step(
        network(),
        folder / 'step.pth',
        replay=dict(
            type='GeneratedReplay',
            checkpoint=str(folder / 'replay.pth'),
            has_background=True,
            generator=dict(type='LayoutGenerator', **generator),
            **options,
        ),
    )


@pytest.mark.parametrize(
    ('build', 'replays', 'copies'),
    [
        (rotating, False, 1),  # turns
        (rotating, True, 2),  # and what the background of an exemplar stands for
        (replaying, True, 3),  # and noise and layouts
    ],
)
def test_copies_to_the_device_are_queued_there(build, replays, copies, tmp_path):
    """On the device "meta", where tensors have no content but copies are copies."""
    model, data = build(tmp_path).to('meta'), data_of(replays)
    inputs = torch.stack(data['inputs']).to('meta')
    samples = [sample.to('meta') for sample in data['data_samples']]
    model.loss(inputs, samples)  # networks beside it are moved in the first iteration
    with BlockingCopies() as found:
        model.loss(inputs, samples)
    assert found.seen == [False] * copies


def test_cached_images_are_queued_too(tmp_path, monkeypatch):
    replay = replaying(tmp_path, cache=3)._replay
    replay.images(1, torch.device('cpu'))
    monkeypatch.setattr(replay.network, 'from_bytes', lambda images: images)
    replay.network.to('meta')
    with BlockingCopies() as found:
        replay.images(2, torch.device('meta'))
    assert found.seen == [False]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('path', METHODS, ids=lambda path: path.stem)
def test_cuda_itself_sees_no_wait(path, tmp_path, benchmark_module):
    data = data_of(True)
    model = method_model(path, tmp_path, data, benchmark_module('step').segmentor_of, 'cuda')
    prepared = model.data_preprocessor(data, True)
    hub = DeferredMessageHub('step')
    # In the first iteration networks are moved, and what is needed in all is computed.
    for mode in ('default', 'error'):
        torch.cuda.set_sync_debug_mode(mode)
        try:
            loss, losses = model.parse_losses(model.loss(**prepared))
            loss.backward()
            RuntimeInfoHook().after_train_iter(SimpleNamespace(message_hub=hub), 0, data, losses)
        finally:
            torch.cuda.set_sync_debug_mode('default')
    assert len(hub.get_scalar('train/loss').data[0]) == 2
