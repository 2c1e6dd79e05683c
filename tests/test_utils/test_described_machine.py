"""The machine is described once, as MMEngine describes it."""

import numpy as np
from mmengine.runner import runner

from mmseg_cil.utils.described_machine import described_once


def test_the_description_is_mmengines_and_made_once(monkeypatch):
    calls, collect = [], runner.collect_env
    monkeypatch.setattr(runner, 'collect_env', lambda: calls.append(1) or collect())
    usual = runner.collect_env()
    for seed in (3, 4):
        np.random.seed(seed)
        with described_once():
            found = runner.collect_env()
        assert found == {**usual, 'numpy_random_seed': seed}
        assert list(found) == list(usual)
    assert calls == [1, 1]
    runner.collect_env()
    assert calls == [1, 1, 1]
