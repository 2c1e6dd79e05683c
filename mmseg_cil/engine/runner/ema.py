"""Weights that a hook averages during training."""

from __future__ import annotations

from mmengine.dist import all_reduce_params
from mmengine.hooks import EMAHook
from mmengine.runner import Runner


def keep_averaged_weights(runner: Runner) -> None:
    """Gives the network the weights that an ``EMAHook`` has averaged, for good.

    MMEngine lends them to the network for the time of a test and takes them
    back, so what is saved after the test is not what was tested. A step here
    ends with one set of weights, which is evaluated, exported, and what the
    next step starts from and learns from. That these are the averaged ones
    follows MMEngine, which puts them into the checkpoint for use.

    Args:
        runner: Runner of a step that has trained.
    """
    for hook in list(runner.hooks):
        if not isinstance(hook, EMAHook):
            continue
        hook.before_test_epoch(runner)
        if hook.ema_model.update_buffers:
            # Each process has averaged the statistics of its own images.
            all_reduce_params(hook.src_model.buffers(), op='mean')
        # It has nothing to lend any more; and the network may now change its form.
        runner.hooks.remove(hook)
