"""No training iteration of ours makes the device wait: nothing asks for a tensor's content."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from thin_networks import base_step, batch, network, snapshot
from torch.utils._python_dispatch import TorchDispatchMode

METHODS = sorted(Path(__file__).parents[2].glob('configs/_base_/methods/*.py'))
#: Operators whose result, or its size, is known only once the device has computed it.
WAITING = {
    '_local_scalar_dense', 'is_nonzero', 'nonzero', 'nonzero_static', 'masked_select', 'equal',
    'bincount', 'histc', 'allclose', 'unique_dim', '_unique', '_unique2', 'unique_consecutive',
    '_linalg_check_errors'
}


class Waits(TorchDispatchMode):
    """Notes every operator that waits for the device, indexing with a mask included."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        masks = name in ('index', 'index_put', 'index_put_', '_unsafe_index') and any(
            one is not None and one.dtype in (torch.bool, torch.uint8) for one in arguments[1])
        if name in WAITING or masks:
            self.seen.append(name)
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize('waiting', [
    lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: x[x > 0],
    lambda x: x.nonzero(), lambda x: x.masked_select(x > 0), lambda x: x.unique(),
    lambda x: torch.linalg.cholesky(x.diag() + 1)
])
def test_what_waits_is_noticed(waiting):
    with Waits() as waits:
        waiting(torch.arange(3.0))
    assert waits.seen


def method_model(path, folder, data, build):
    """The segmentor of a method at step 1 (3 old classes, 2 new ones), ready to train."""
    init_default_scope('mmseg_cil')
    config, checkpoint = network(auxiliary='single'), folder / 'step.pth'
    base_step(config, checkpoint)
    method = Config.fromfile(path).method.to_dict()
    return build(method, config, (3, 2), snapshot(checkpoint, 3), data).train()


@pytest.mark.parametrize('replays', [False, True])
@pytest.mark.parametrize('path', METHODS, ids=lambda path: path.stem)
def test_no_iteration_waits(path, replays, tmp_path, benchmark_module):
    # Large enough for the official regions of Local POD: a quarter of the last map is a pixel.
    images, samples = batch(5, size=64)
    if replays:
        samples[0].set_metainfo(dict(cil_hidden=()))
    data = dict(inputs=list(images), data_samples=samples)
    model = method_model(path, tmp_path, data, benchmark_module('step').segmentor_of)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
    with Waits() as waits:
        losses = model.train_step(data, optimizer)
    assert torch.isfinite(losses['loss'])
    assert waits.seen == []
