"""The MMEngine Runner of one step of a walk."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import broadcast, is_distributed, master_only
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from mmseg_cil.contracts import StepHook, network_of
from mmseg_cil.engine.config.merged_tests import merge_tests, merges_tests
from mmseg_cil.engine.config.step_visualizer import (
    close_visualizer,
    forget_instances,
    keep_open,
    kinds_of,
    visualizer_of_step,
)
from mmseg_cil.engine.runner.message_hub import DeferredMessageHub
from mmseg_cil.errors import UNREADABLE, InputError
from mmseg_cil.models.compile_options import compile_options
from mmseg_cil.models.compiled_student import compile_network
from mmseg_cil.models.memory_format import arrange_state
from mmseg_cil.models.network_change import CHANGE_NAME, plain_weights
from mmseg_cil.models.recomputation import KEY as RECOMPUTED
from mmseg_cil.models.recomputation import recompute_activations
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.models.teacher import load_plain_state
from mmseg_cil.utils.config_text import without_yapf
from mmseg_cil.utils.described_machine import described_once
from mmseg_cil.utils.finite import ADVICE, require_finite_everywhere
from mmseg_cil.utils.later_figure import figures_later
from mmseg_cil.utils.quiet import quieten_console
from mmseg_cil.utils.stopping import end_waiting, sigterm_blocked, start_loader
from mmseg_cil.utils.weights_files import weights_as_data
from mmseg_cil.utils.young_garbage import young_garbage

#: Iterators over loaders whose worker processes have been started.
_ITERATORS: weakref.WeakSet[Any] = weakref.WeakSet()


def end_workers() -> None:
    """End the worker processes of all loaders of the last Runner.

    Python would end them when it finds their iterators among its garbage: at some time in the next
    step, and only after five seconds, for the queue that tells a worker to end is garbage then too.
    """
    for iterator in list(_ITERATORS):
        iterator._shutdown_workers()
    _ITERATORS.clear()


def clear_instances() -> None:
    """Forget the loggers, hubs, visualisers and scopes of the last Runner.

    MMEngine keeps them by name for the life of the process; with one Runner per
    step, values of one step would leak into the next, and its log file would
    stay open.
    """
    for logger in [
        instance for kind in kinds_of(MMLogger) for instance in kind._instance_dict.values()
    ]:
        for handler in list(getattr(logger, 'handlers', [])):
            if isinstance(handler, logging.FileHandler):
                handler.close()
                logger.removeHandler(handler)
    forget_instances(MMLogger, MessageHub, Visualizer, DefaultScope)


class StepRunner(Runner):
    """MMEngine's Runner with a console that repeats nothing, and errors that say what to do.

    Messages that are the same at every step are in the step's log file, and on
    the console too with ``log_level='DEBUG'``. Logged values wait on their device
    until they are read.
    """

    def build_message_hub(self, message_hub: dict | None = None) -> MessageHub:
        """Build a hub that fetches values when they are read."""
        hub: MessageHub = DeferredMessageHub.get_instance(
            **{'name': self._experiment_name, **(message_hub or {})}
        )
        return hub

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Build a visualizer whose logs are the step's alone, open until the step is scored."""
        if isinstance(visualizer, Mapping):
            visualizer = visualizer_of_step(visualizer, self.work_dir)
        with figures_later():
            built: Visualizer = super().build_visualizer(visualizer)
        return keep_open(built)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a loader whose worker processes leave signals to this process."""
        loader: DataLoader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        if loader.num_workers:
            loader.worker_init_fn = functools.partial(start_loader, loader.worker_init_fn)
            start = loader._get_iterator

            def start_workers() -> Any:
                with sigterm_blocked():
                    iterator = start()
                _ITERATORS.add(iterator)
                return iterator

            loader._get_iterator = start_workers  # type: ignore[method-assign]
        return loader

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the segmentor, which merges the views that ``TestTimeAug`` makes of an image."""
        built: nn.Module = super().build_model(model)
        if not torch.cuda.is_available() and any(
            isinstance(module, nn.SyncBatchNorm) for module in built.modules()
        ):
            # Some parts have SyncBatchNorm as their default; a config's own is replaced earlier.
            built = revert_sync_batchnorm(built)
        if merges_tests(self.cfg):
            merge_tests(built, self.cfg.get('tta_model'))
        return built

    def build_logger(self, log_level: int | str = 'INFO', **kwargs: Any) -> MMLogger:
        """Build the logger and filter its console."""
        logger: MMLogger = super().build_logger(log_level, **kwargs)
        quieten_console(logger)
        for line in self.cfg.get('as_published') or ():
            logger.info(line)
        return logger

    def _log_env(self, env_cfg: dict) -> None:
        """Log the machine, which is the same at every step, and the step's config."""
        with described_once():
            super()._log_env(env_cfg)

    def train(self) -> nn.Module:
        """Train the network, with activations computed again where the config says so."""
        # MMEngine would use PyTorch's reentrant form, see recompute_activations.
        self._recomputed = self.cfg.pop(RECOMPUTED, None)
        trained: nn.Module = super().train()
        return trained

    def _init_model_weights(self) -> None:
        """Initialise the weights, after which the modules of the network are those that train."""
        super()._init_model_weights()
        network = network_of(self)
        if isinstance(network, IncrementalEncoderDecoder):
            recompute_activations(network, self._recomputed)

    def _maybe_compile(self, target: str) -> None:
        """Compile parts of the network that trains, in place of MMEngine's whole ``train_step``."""
        options = compile_options(self.cfg.get('compile'))
        network = network_of(self)
        if options and target == 'train_step' and isinstance(network, IncrementalEncoderDecoder):
            count = compile_network(network, options)
            self.logger.info(f'{count} parts of the network are compiled, each at its first run')

    def load_or_resume(self) -> None:
        """Load the start of the step: a state in training, or the weights of ``load_from``.

        The weights of ``load_from`` are those of a plain network, whatever the method changes in
        the network.
        """
        begins = not (self._has_loaded or self._resume) and self._load_from is not None
        with plain_weights(network_of(self)) if begins else contextlib.nullcontext():
            super().load_or_resume()
        optimizer = getattr(self.optim_wrapper, 'optimizer', None)
        if self._resume and isinstance(optimizer, Optimizer):
            arrange_state(optimizer)

    def load_checkpoint(self, filename: str, *args: Any, **options: Any) -> dict:
        """Load weights or a state in training.

        Raises:
            InputError: The file cannot be read.
        """
        try:
            checkpoint: dict = super().load_checkpoint(filename, *args, **options)
        except UNREADABLE as error:
            raise InputError(
                f'{filename} cannot be loaded ({type(error).__name__}: {error}): the '
                'file must be whole, and the same on every node'
            ) from error
        return checkpoint

    @master_only
    def dump_config(self) -> None:
        """Write the step's config beside its log.

        MMEngine would write it into the step's folder, under the name of the user's
        file; ``config.py`` in that folder is the plain config for MMSegmentation.
        """
        self.cfg.dump(Path(self.log_dir) / 'config.py')


@contextlib.contextmanager
def step_runner(
    cfg: Config, launcher: str, kind: type[StepRunner] = StepRunner
) -> Iterator[Runner]:
    """Yield a Runner for one step, and release everything that it held afterwards.

    Within the block, MMEngine reads weights as data only.
    """
    with weights_as_data(), young_garbage(), _runner(cfg, launcher, kind) as runner:
        yield runner


@contextlib.contextmanager
def _runner(cfg: Config, launcher: str, kind: type[StepRunner]) -> Iterator[Runner]:
    clear_instances()
    cfg.launcher = launcher
    runner = kind.from_cfg(without_yapf(cfg))
    try:
        yield runner
    finally:
        end_waiting()
        end_workers()
        close_visualizer(runner.visualizer)
        clear_instances()
        # The caller still has the Runner, but networks and loaders are to go now.
        vars(runner).clear()
        del runner
        # Parts that are built between two Runners come from this package's registries too.
        init_default_scope('mmseg_cil')
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def require_finite_network(runner: Runner, what: str) -> None:
    """Refuse a trained network whose weights are not finite, before anything is made of it.

    Args:
        runner: Runner of the trained network.
        what: Name of the training, for the message.

    Raises:
        InputError: Some weights are NaN or infinite, in any process.
    """
    require_finite_everywhere(
        network_of(runner).state_dict(),
        f'{what}: training has diverged',
        f'Nothing is made of such weights. {ADVICE}. Then start again with --resume '
        '--accept-changes: the steps before it stay',
    )


def after_step(runner: Runner) -> None:
    """Call ``change_weights`` of the hooks, and ``after_step`` once the weights are final.

    This is after ``after_train`` of all hooks, after EMA weights have been put in
    place and the network is plain again, and before the network is exported.
    """
    hooks = [hook for hook in runner.hooks if isinstance(hook, StepHook)]
    for hook in hooks:
        hook.change_weights(runner)
    for hook in hooks:
        hook.after_step(runner)


def initialise_untrained(runner: Runner) -> None:
    """Give a step without iterations the weights it would start from, equal on all ranks."""
    model: Any = network_of(runner)
    model.make_plain()
    model.init_weights()
    runner.load_or_resume()
    if is_distributed():
        for value in model.state_dict().values():
            broadcast(value)


def load_weights(runner: Runner, path: str) -> None:
    """Load a step's own checkpoint; the network must be that of the checkpoint.

    Raises:
        InputError: The checkpoint cannot be read or belongs to another network.
    """
    model: Any = network_of(runner)
    load_state(runner, load_plain_state(path, model.step.num_seen), path)


def load_state(runner: Runner, state: Mapping[str, Tensor], path: str) -> None:
    """Load the weights of a plain network; the Runner's network becomes plain.

    Args:
        runner: Runner of the step.
        state: All weights, as an exported checkpoint has them.
        path: Path of the file with the weights, for the error.

    Raises:
        InputError: The weights are those of another network.
    """
    load_into(network_of(runner), state, path)


def load_into(model: Any, state: Mapping[str, Tensor], path: str) -> None:
    """Load the weights of a plain network into a segmentor, which becomes plain.

    Args:
        model: Model of the step.
        state: All weights, as an exported checkpoint has them.
        path: Path of the file with the weights, for the error.

    Raises:
        InputError: The weights are those of another network.
    """
    model.make_plain()
    try:
        # Strict except for parts that only training needs, which no checkpoint holds.
        model.load_state_dict({**model.state_dict(), **state})
    except RuntimeError as error:
        raise InputError(
            f'{path} does not fit the network of this config ({error}): use the config of the walk'
        ) from error
    model.restore_outputs(Path(path).parent / CHANGE_NAME)


def evaluate(runner: Runner, has_run: bool) -> dict[str, Any]:
    """Run the test loop and return the metric's entry for ``metrics.json``.

    ``Runner.test`` is not used: it would call every hook's ``before_run`` again
    after training.

    Args:
        runner: The step's Runner, with the step's weights.
        has_run: Whether the Runner has trained, so that its hooks have begun.
    """
    if not has_run:
        runner.call_hook('before_run')
    runner._test_loop = runner.build_test_loop(runner._test_loop)
    runner.test_loop.run()
    result: dict[str, Any] = runner.test_loop.evaluator.metrics[0].result
    return result
