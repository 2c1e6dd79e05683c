"""One iteration of a step's training, phase by phase, by a Runner that leaves nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmseg_cil.contracts import StepHook, network_of
from mmseg_cil.engine.config.step_hooks import DISPENSABLE
from mmseg_cil.engine.preflight.cut_images import cut_images
from mmseg_cil.engine.preflight.failures import RehearsalError, describe, phase
from mmseg_cil.engine.preflight.look_at_batch import check_training_batch, samples_of
from mmseg_cil.engine.preflight.settled_norms import settled_norms
from mmseg_cil.engine.runner.step_runner import StepRunner, step_runner
from mmseg_cil.errors import InputError
from mmseg_cil.registry import HOOKS

#: The most images of a batch where a CPU trains: enough for norms, and no slower than needed.
MOST_ON_CPU = 2
#: Number of images that hooks see before training.
FEW = 2
_LOADER_OPTIONS = (
    'prefetch_factor',
    'timeout',
    'multiprocessing_context',
    'pin_memory',
    'worker_init_fn',
)


class TrialRunner(StepRunner):
    """A step's Runner that does not log its environment and writes no config."""

    def _log_env(self, env_cfg: dict) -> None:
        pass

    def dump_config(self) -> None:
        """Write nothing."""


class TrialLoop(IterBasedTrainLoop):
    """The first iteration of a training, whose errors name the phase that raised them.

    Args:
        runner: Runner of the trial.
        dataloader: Config of the training loader.
        where: Name of the step or sub-step, for messages.
        exact: Whether the batch and the weights are those that training begins with. Otherwise
            a loss that is not finite has a second chance with the next batch.
        base: Whether the weights are those that training begins with, so that an update of them
            must leave the loss finite.
    """

    def __init__(
        self, runner: Runner, dataloader: Any, where: str, exact: bool, base: bool
    ) -> None:
        self.dataloader: Any
        super().__init__(runner, dataloader, max_iters=runner.cfg.train_cfg.max_iters)
        self.where, self.exact, self.base = where, exact, base
        #: The batch that was trained on.
        self.batch: Any = None
        #: Names of trainable parameters that the loss does not depend on.
        self.unused: list[str] = []

    def run(self) -> nn.Module:
        """Train on one batch."""
        runner: Any = self.runner
        self.batch = self._read()
        # Hooks may label images before training, so the second batch is read before, too.
        other = None if self.exact else self._read()
        with phase(self.where, 'what hooks do before training'):
            self._show_few_images([self.batch] if other is None else [self.batch, other])
            runner.call_hook('before_train')
        loss, bad = self._forward()
        if bad and other is not None:
            self.batch = other
            loss, bad = self._forward()
        if bad:
            raise RehearsalError(
                describe(
                    self.where,
                    'the forward pass',
                    InputError(
                        f'losses that are not finite in the first batch: {", ".join(bad)}; look at '
                        'the masks, ignore_index, loss weights and the numbers in the images'
                    ),
                ),
                of_size=True,
            )
        wrapper = runner.optim_wrapper
        with phase(self.where, 'the backward pass'):
            wrapper.backward(wrapper.scale_loss(loss))
        self.unused = [
            name
            for name, value in network_of(runner).named_parameters()
            if value.requires_grad and value.grad is None
        ]
        with phase(self.where, 'the optimizer step'):
            wrapper.step()
            wrapper.zero_grad()
            if self.base:
                self._check_update()
        return network_of(runner)

    def _read(self) -> Any:
        with phase(self.where, 'reading a training batch'):
            batch = next(self.dataloader_iterator)
            check_training_batch(batch)
        return batch

    def _show_few_images(self, batches: Sequence[Any]) -> None:
        """Let the passes over the images of the step, which hooks make, be short.

        Args:
            batches: Batches, whose images the passes reach besides.
        """
        loader: Any = self.dataloader
        if hasattr(loader.dataset, 'few_images'):
            paths = {sample.get('img_path') for batch in batches for _, sample in samples_of(batch)}
            self.dataloader = DataLoader(
                loader.dataset.few_images(FEW, paths),
                batch_size=loader.batch_size,
                collate_fn=loader.collate_fn or pseudo_collate,
                generator=torch.Generator(),
            )

    def _forward(self) -> tuple[torch.Tensor, list[str]]:
        """Return the loss, and the names of those parts of it that are not finite."""
        runner: Any = self.runner
        model: Any = network_of(runner)
        with phase(self.where, 'the forward pass'):
            runner.call_hook('before_train_iter', batch_idx=0, data_batch=self.batch)
            model.train()
            with runner.optim_wrapper.optim_context(runner.model):
                data = model.data_preprocessor(self.batch, True)
                losses = model._run_forward(data, mode='loss')
            loss, parts = model.parse_losses(losses)
        # Accuracies and the like may be undefined.
        parts = {name: value for name, value in parts.items() if 'loss' in name}
        parts['their sum'] = loss
        return loss, [
            f'{name} = {float(value)}'
            for name, value in parts.items()
            if not torch.isfinite(torch.as_tensor(value)).all()
        ]

    def _check_update(self) -> None:
        """Check the losses of the same batch again, with the weights after one update."""
        with torch.no_grad():
            _, bad = self._forward()
        if bad:
            raise InputError(
                f'losses that are not finite after one update: {", ".join(bad)}; '
                'lower the learning rate, or begin it with a warm-up'
            )


def on_cpu() -> bool:
    """Return whether training runs on a CPU, where a trial is kept short."""
    return str(get_device()) == 'cpu'


def is_enlarged(batch: int, world_size: int) -> bool:
    """Return whether a trial has a larger batch than each process in training.

    Norms that see the images of all processes need more than one image, and a trial runs in one
    process.

    Args:
        batch: Images per process.
        world_size: Number of processes.
    """
    return batch == 1 and world_size > 1 and not on_cpu()


def make_trial(cfg: Config, caches: Path, world_size: int) -> bool:
    """Change a step's config, in place, so that its trial leaves nothing and waits for nothing.

    Only hooks with ``StepHook.rehearsed`` take part: those of this package that training
    cannot do without. Other hooks may write, send or stop something.

    Args:
        cfg: Config of a step or a sub-step, with its folder in a temporary place.
        caches: Folder of the walk itself that may hold the class index.
        world_size: Number of processes that will train.

    Returns:
        Whether a batch has as many images as the batch of each process in training.
    """
    batch = cfg.train_dataloader.batch_size
    cfg.update(visualizer=None, log_level='ERROR', resume=False)
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
    cfg.default_hooks = dict.fromkeys((*DISPENSABLE, 'checkpoint'))
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if _is_rehearsed(hook)]
    for name in ('train_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if not loader:
            continue
        for key in _LOADER_OPTIONS:
            loader.pop(key, None)
        loader.update(num_workers=0, persistent_workers=False)
        if 'cache_dirs' in loader.dataset:
            loader.dataset.cache_dirs = [str(caches)]
    if on_cpu():
        cfg.train_dataloader.batch_size = min(batch, MOST_ON_CPU)
    elif is_enlarged(batch, world_size):
        cfg.train_dataloader.batch_size = 2
    whole: bool = cfg.train_dataloader.batch_size == batch
    return whole


def _is_rehearsed(hook: Mapping[str, Any]) -> bool:
    kind = hook.get('type')
    kind = HOOKS.get(kind) if isinstance(kind, str) else kind
    return isinstance(kind, type) and issubclass(kind, StepHook) and kind.rehearsed


@contextlib.contextmanager
def trained_once(
    cfg: Config,
    where: str,
    exact: bool = False,
    cut: bool = False,
    base: bool = False,
    dataset: Any = None,
) -> Iterator[Any]:
    """Train on one batch, and yield the Runner afterwards.

    Args:
        cfg: Config that :func:`make_trial` has changed.
        where: Name of the step or sub-step, for messages.
        exact: See :class:`TrialLoop`.
        cut: Whether to cut large images, for speed.
        base: See :class:`TrialLoop`. The network is made fit for evaluation, too.
        dataset: Training dataset, where it is built already.

    Raises:
        RehearsalError: The trial failed.
    """
    with contextlib.ExitStack() as stack:
        with phase(where, 'building it'):
            runner: Any = stack.enter_context(step_runner(cfg, 'none', TrialRunner))
            model: Any = network_of(runner)
            if cut:
                model.data_preprocessor.register_forward_hook(cut_images)
        with phase(where, 'reading a training batch'):
            if dataset is not None:
                runner._train_dataloader['dataset'] = dataset
            runner._train_loop = TrialLoop(runner, runner._train_dataloader, where, exact, base)
        with (
            phase(where, 'preparing the training'),
            settled_norms(model) if base else contextlib.nullcontext(),
        ):
            runner.train()
        yield runner
