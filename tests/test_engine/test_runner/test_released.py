"""A step leaves no network and no worker process behind when the next step begins."""

import multiprocessing
import weakref

from mmseg_cil.engine.runner.step_runner import StepRunner
from mmseg_cil.engine.walk_runner import WalkRunner
from mmseg_cil.testing.tiny import tiny_config


def test_networks_and_workers_of_a_step_are_gone_at_the_next(data_root, tmp_path, monkeypatch):
    build, networks, left = StepRunner.build_model, [], []

    def watched(self, config):
        left.append(
            (
                [network for network in networks if network() is not None],
                multiprocessing.active_children(),
            )
        )
        network = build(self, config)
        networks.append(weakref.ref(network))
        return network

    monkeypatch.setattr(StepRunner, 'build_model', watched)
    workers = {'train_dataloader.num_workers': 1, 'train_dataloader.persistent_workers': True}
    WalkRunner(tiny_config(data_root, **workers), tmp_path, steps='0-1').run()
    assert left == [([], []), ([], [])]
    assert not multiprocessing.active_children()
