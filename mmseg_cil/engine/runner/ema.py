"""The EMA weights, which a hook averages during training."""

from __future__ import annotations

from mmengine.dist import all_reduce_params
from mmengine.hooks import EMAHook
from mmengine.runner import Runner


def keep_averaged_weights(runner: Runner) -> None:
    """Give the network the EMA weights that an ``EMAHook`` has averaged, for good.

    MMEngine lends the EMA weights to the network for the time of a test and
    takes them back, so that the weights saved after the test are not the tested
    ones. Here a step ends with one set of weights, which is evaluated and
    exported, and which the next step starts from and learns from. The choice of
    the EMA weights follows MMEngine, which puts them into the checkpoint for use.

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
        # The hook has nothing to lend any more, and the network may now change its form.
        runner.hooks.remove(hook)
