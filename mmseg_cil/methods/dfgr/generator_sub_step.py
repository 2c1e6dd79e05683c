"""The sub-step that trains a generator from the last segmentor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmseg_cil.contracts import network_of
from mmseg_cil.engine.config.step_hooks import OF_ALL
from mmseg_cil.engine.paths import run_seed
from mmseg_cil.engine.runner.distributed import batch_per_process, decided_by_main
from mmseg_cil.engine.step_configs import sub_step_config
from mmseg_cil.engine.sub_steps.base import SubStep, SubStepInputs
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.methods.dfgr.generator_samples import draw_samples, sample_grid
from mmseg_cil.methods.dfgr.generator_training import WEIGHTS, check_batch_norms
from mmseg_cil.models.plain import plain_model_config
from mmseg_cil.registry import SUB_STEPS
from mmseg_cil.utils.atomic import atomic_write, write_json
from mmseg_cil.visualization.grid import save_grid

WEIGHTS_NAME, GRID_NAME, SUMMARY_NAME = 'generator.pth', 'samples.png', 'summary.json'
#: Generated images have the size of the crop, but no side is longer than this many pixels.
LONGEST = 256


@SUB_STEPS.register_module()
class GeneratorSubStep(SubStep):
    """Trains a generator from the last step's segmentor; the step replays the generator's images.

    The sub-step leaves the generator's weights, a grid of generated images with the
    segmentor's predictions, and a summary: the share of pixels that follow the layout, and
    the parts of the loss, on layouts that training did not use.

    Args:
        name: Name of the sub-step's folder. Defaults to 'generator'.
        max_iters: Number of iterations. By default as many as the step has.
        batch_size: Images per iteration, over all processes.
        lr: Learning rate of Adam (betas 0.5, 0.999), constant over the first
            half and falling linearly to 0.001 of itself over the second.
        size: ``(H, W)`` of the images. By default the size of the crop, shrunk if
            a side is longer than 256.
        generator: Further arguments of
            :class:`~mmseg_cil.methods.dfgr.layout_generator.LayoutGenerator`.
        weights: Weights of the parts of the loss, by name, see
            :class:`~mmseg_cil.methods.dfgr.generator_training.GeneratorTraining`.
        replay: Arguments of :class:`~mmseg_cil.methods.dfgr.generated_replay.GeneratedReplay`:
            ``ratio`` and ``cache``.

    Raises:
        InputError: A number cannot be used.
    """

    name = 'generator'
    when = 'before'

    def __init__(
        self,
        name: str | None = None,
        max_iters: int | None = None,
        batch_size: int = 8,
        lr: float = 2e-3,
        size: Sequence[int] | None = None,
        generator: Mapping[str, Any] | None = None,
        weights: Mapping[str, float] | None = None,
        replay: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name)
        for key, value in (
            ('max_iters', 1 if max_iters is None else max_iters),
            ('batch_size', batch_size),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(
                    f'sub-step {self.name}: {key} is {value!r}; it must be a whole number above 0'
                )
        self.max_iters, self.batch_size, self.lr = max_iters, batch_size, lr
        self.size = size
        self.generator = dict(generator or {})
        self.weights = {**WEIGHTS, **(weights or {})}
        self.replay = dict(replay or {})
        self._names: list[str] = []
        self._palette: list[list[int]] = []
        self._is_bgr = False

    def iterations(self, walk: Walk, step: int) -> int:
        """Return ``max_iters``, by default the number of iterations of the step."""
        return self.max_iters or walk.iterations[step]

    def check(self, walk: Walk) -> None:
        """Refuse a network without batch norms, and a batch that the processes cannot share."""
        check_batch_norms(walk.cfg.model.to_dict(), 2)
        batch_per_process(self.batch_size, get_world_size())

    def derive_config(self, walk: Walk, step: int, inputs: SubStepInputs) -> Config:
        """See :meth:`SubStep.derive_config`."""
        snapshot = inputs.step.teacher
        assert snapshot is not None, 'it applies after the first step that trains only'
        taught = _taught(walk, step)
        self._names = walk.seen_names(taught)
        self._palette = [walk.palette[name] for name in self._names]
        # Images are read in the order blue, green, red, unless the preprocessor reverses it.
        self._is_bgr = not (walk.cfg.model.get('data_preprocessor') or {}).get('bgr_to_rgb')
        generator = self.generator_config(
            walk.cfg.model.get('data_preprocessor'), snapshot['num_classes']
        )
        cfg = sub_step_config(walk, step, inputs)
        # The Runner would pass this key to the model, which is no segmentor.
        cfg.pop('data_preprocessor', None)
        cfg.model = dict(
            type='GeneratorTraining',
            network=plain_model_config(walk.cfg.model.to_dict(), snapshot['num_classes']),
            snapshot=dict(snapshot),
            generator=generator,
            weights=self.weights,
        )
        cfg.train_dataloader = self._layouts(walk, step, generator)
        self._set_schedule(cfg, self.iterations(walk, step))
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type in OF_ALL]
        return cfg

    def _layouts(self, walk: Walk, step: int, generator: Mapping[str, Any]) -> dict[str, Any]:
        """Return the config of the loader of layouts, which replaces the step's images."""
        return dict(
            batch_size=batch_per_process(self.batch_size, get_world_size()),
            num_workers=int(walk.cfg.train_dataloader.get('num_workers') or 0),
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='GlobalPositionSampler', seed=0, shuffle=False),
            dataset=dict(
                type='LayoutDataset',
                num_classes=generator['num_classes'],
                has_background=walk.protocol.taxonomy.has_background,
                size=generator['size'],
                noise_size=generator.get('noise_size', 64),
                seed=run_seed(walk.cfg),
                step=step,
            ),
        )

    def _set_schedule(self, cfg: Config, length: int) -> None:
        """Give a config Adam in the walk's precision, whose rate falls over the second half."""
        precision = {
            key: cfg.optim_wrapper[key]
            for key in ('type', 'dtype', 'loss_scale')
            if key in cfg.optim_wrapper
        }
        cfg.optim_wrapper = dict(
            **precision, optimizer=dict(type='Adam', lr=self.lr, betas=(0.5, 0.999))
        )
        falling = dict(
            type='LinearLR',
            start_factor=1.0,
            end_factor=1e-3,
            begin=length // 2,
            end=length,
            by_epoch=False,
        )
        cfg.param_scheduler = [falling] if length // 2 > 1 else None
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=length)

    def generator_config(
        self, preprocessor: Mapping[str, Any] | None, num_classes: int
    ) -> dict[str, Any]:
        """Return the config of the generator.

        Args:
            preprocessor: Config of the model's data preprocessor, with the size of the crop,
                mean and standard deviation.
            num_classes: Number of classes of the layouts.

        Raises:
            InputError: Neither ``preprocessor`` nor the sub-step has a size.
        """
        preprocessor = preprocessor or {}
        size = self.size or preprocessor.get('size')
        if not size:
            raise InputError(
                f'sub-step {self.name}: the size of its images is not known, as '
                'model.data_preprocessor has no size: give size=(H, W)'
            )
        shrink = 1.0 if self.size else min(1.0, LONGEST / max(size))
        return dict(
            type='LayoutGenerator',
            num_classes=num_classes,
            size=[round(side * shrink) for side in size],
            mean=list(preprocessor.get('mean') or [0.0] * 3),
            std=list(preprocessor.get('std') or [1.0] * 3),
            **self.generator,
        )

    def finish(self, runner: Runner, folder: Path) -> list[str]:
        """Write generator, grid and summary."""
        model: Any = network_of(runner)
        samples = draw_samples(
            model,
            len(self._names),
            has_background=bool(runner.cfg.train_dataloader.dataset.has_background),
        )

        self.summary = {'follows': samples.summary['follows']}

        def write() -> None:
            self._save(model, folder)
            write_json(folder / SUMMARY_NAME, samples.summary)
            grid = sample_grid(samples, self._names, self._palette, self._is_bgr)
            save_grid(grid, folder / GRID_NAME)

        decided_by_main(write)
        print_log(
            f'generator: {samples.summary["follows"]:.1%} of the pixels follow the layout',
            logger='current',
        )
        return [WEIGHTS_NAME, GRID_NAME, SUMMARY_NAME]

    def stand_in(self, runner: Runner, folder: Path) -> None:
        """Write the generator alone: no images are drawn and judged."""
        self._save(network_of(runner), folder)

    @staticmethod
    def _save(model: Any, folder: Path) -> None:
        state = {key: value.cpu() for key, value in model.generator.state_dict().items()}
        atomic_write(folder / WEIGHTS_NAME, lambda file: torch.save(dict(state_dict=state), file))

    def hand_on(self, cfg: Config, walk: Walk, step: int, folder: Path) -> None:
        """Add a replay of the generator's images to the config of the step."""
        taught = len(walk.protocol.steps[_taught(walk, step)].seen)
        cfg.model['replay'] = dict(
            type='GeneratedReplay',
            checkpoint=str(folder / WEIGHTS_NAME),
            generator=self.generator_config(walk.cfg.model.get('data_preprocessor'), taught),
            has_background=walk.protocol.taxonomy.has_background,
            **self.replay,
        )


def _taught(walk: Walk, step: int) -> int:
    """Return the last earlier step that trains: the generator learns from its segmentor."""
    return max(earlier for earlier in range(step) if walk.trains(earlier))
