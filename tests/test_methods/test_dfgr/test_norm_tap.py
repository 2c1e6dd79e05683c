"""Norms' statistics as losses of the images, with and without ``with_cp`` in the teacher."""

import torch

from mmseg_cil.methods.dfgr.norm_tap import tap_statistics
from mmseg_cil.models.teacher import Teacher
from mmseg_cil.testing.networks import base_step, batch, network, snapshot


def gradient(config, path):
    teacher = Teacher(config, **snapshot(path, 3))
    images = batch(3)[0].requires_grad_()
    with tap_statistics(teacher.network) as divergences:
        teacher.network.extract_feat(images)
    torch.stack([divergence.sum() for divergence in divergences]).sum().backward()
    return len(divergences), images.grad


def test_a_teacher_with_recomputed_blocks_gives_the_gradients_of_the_plain_one(tmp_path):
    path, config = tmp_path / 'step.pth', network()
    base_step(config, path)
    count, plain = gradient(config, path)
    assert plain.abs().max() > 0
    config['backbone']['with_cp'] = True
    found, own = gradient(config, path)
    assert found == count
    assert torch.equal(own, plain)
