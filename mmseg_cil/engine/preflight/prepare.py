"""The preparation of a walk: all checks and counts before its first iteration."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.registry import init_default_scope

from mmseg_cil.engine.config.first_step import is_trained_elsewhere, with_first_step
from mmseg_cil.engine.config.length import global_batch_size, step_iterations
from mmseg_cil.engine.config.method import find_method, memory_settings
from mmseg_cil.engine.config.model_losses import StepClasses
from mmseg_cil.engine.config.own_data import with_own_data
from mmseg_cil.engine.config.type_names import with_type_names
from mmseg_cil.engine.data import dataset_configs, open_view, validation_dataset
from mmseg_cil.engine.preflight.building import part
from mmseg_cil.engine.preflight.data import check_data, check_same_classes
from mmseg_cil.engine.preflight.model import tell_losses
from mmseg_cil.engine.preflight.names import check_names
from mmseg_cil.engine.preflight.numbers import require_finite_settings
from mmseg_cil.engine.preflight.parts import check_parts
from mmseg_cil.engine.preflight.values import check_mappings, check_values, warn_of_crop
from mmseg_cil.engine.record.images import ImagePrints, prints_of
from mmseg_cil.engine.runner.distributed import batch_per_process, main_process_first
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.protocols import Protocol
from mmseg_cil.protocols.listed import uses_config_dataset
from mmseg_cil.utils.weights_files import weights_as_data


@weights_as_data()
def prepare_walk(cfg: Config, work_dir: str | Path) -> Walk:
    """Build the protocol, index the data and check what can be checked before training.

    Raises:
        InputError: Something the user gave is wrong.
    """
    check_mappings(cfg)
    cfg = with_own_data(with_first_step(cfg))
    check_names(cfg)
    require_finite_settings(cfg)
    for key in ('protocol', 'model', 'train_dataloader', 'optim_wrapper', 'train_cfg'):
        if not isinstance(cfg.get(key), Mapping):
            raise InputError(
                f'the config has no {key}: a walk needs a plain MMSegmentation config '
                'plus protocol=dict(name=...) and method=dict(name=...)'
            )
    init_default_scope('mmseg_cil')
    given, cfg = cfg, with_type_names(cfg)
    check_values(cfg)
    dataset_configs(cfg)
    batch_per_process(global_batch_size(cfg, get_world_size()), get_world_size())
    protocol, images, palette, prints = main_process_first(
        functools.partial(read_data, cfg, str(work_dir))
    )
    tell_losses(cfg.model, find_method(cfg, protocol.name), StepClasses.of(protocol, 0))
    iterations = step_iterations(
        cfg, protocol, images['train'], global_batch_size(cfg, get_world_size())
    )
    if all(length == 0 for length in iterations):
        raise InputError(
            'no step of this walk has a single training iteration: give max_iters or '
            'max_epochs above 0 in train_cfg or step_overrides'
        )
    if validates(cfg, iterations) and validation_dataset(cfg, protocol.pools_splits) is not None:
        main_process_first(functools.partial(read_validation_data, cfg, str(work_dir)))
    walk = Walk(
        cfg,
        protocol,
        Path(work_dir),
        images['train'],
        images['test'],
        tuple(iterations),
        palette,
        prints,
        given,
    )
    check_parts(walk)
    warn_of_crop(cfg)
    return walk


def read_data(
    cfg: Config, work_dir: str
) -> tuple[Protocol, dict[str, tuple[int, ...]], dict, ImagePrints]:
    """Build one view per split, which indexes the masks, and count the images of all steps."""
    # This view is built but not read: its protocol says whether it pools the splits.
    protocol = open_view(cfg, 'train', work_dir, pools_splits=False).protocol
    if uses_config_dataset(cfg.protocol):
        check_same_classes(*dataset_configs(cfg))
    views = {
        split: open_view(cfg, split, work_dir, protocol.pools_splits) for split in ('train', 'test')
    }
    check_data(views['train'], views['test'])
    if memory_settings(cfg, protocol.name) is not None:
        views['train'].check_names()
    images = {
        split: tuple(len(view.images_of_step(step)) for step in range(len(protocol.steps)))
        for split, view in views.items()
    }
    _check_images(cfg, protocol, images)
    prints = {split: prints_of(view) for split, view in views.items()}
    return protocol, images, views['test'].palette_by_name(), ImagePrints(**prints)


def validates(cfg: Config, iterations: Sequence[int]) -> bool:
    """Return whether some step is long enough to be validated in training.

    Args:
        cfg: The user's config.
        iterations: Iterations of every step.
    """
    intervals = [cfg.train_cfg.get('val_interval')]
    intervals += [
        changes.get('train_cfg.val_interval')
        for changes in (cfg.get('step_overrides') or {}).values()
    ]
    return any(isinstance(interval, int) and interval <= max(iterations) for interval in intervals)


def read_validation_data(cfg: Config, work_dir: str) -> None:
    """Read the validation images, where they are not the test images, and load one of them.

    Raises:
        InputError: The dataset, its pipeline or its masks are wrong.
    """
    view = open_view(cfg, 'test', work_dir, False, validation_dataset(cfg, False))
    with part('the validation dataset or its pipeline'):
        if len(view):
            view[0]


def _check_images(cfg: Config, protocol: Protocol, images: Mapping[str, tuple[int, ...]]) -> None:
    if cfg.get('skip_empty_steps', False):
        return
    # A first step that was trained elsewhere needs no image here, and no score.
    begin = int(is_trained_elsewhere(cfg))
    empty = [
        step
        for step, count in enumerate(images['train'])
        if count == 0 and protocol.trains(step) and step >= begin
    ]
    if empty:
        names = protocol.taxonomy.names
        listed = '; '.join(
            f'step {step} ({", ".join([names[i] for i in protocol.steps[step].new] or protocol.steps[step].domains)})'  # noqa: E501
            for step in empty[:10]
        )
        raise InputError(
            f'no training image for {listed}: check the data, or set skip_empty_steps=True (on the '
            'command line: --cfg-options skip_empty_steps=True) to record such steps untrained'
        )
    without_test = [
        step for step, count in enumerate(images['test']) if count == 0 and step >= begin
    ]
    if without_test:
        raise InputError(
            f'no test image shows a class seen by the steps {without_test}: check the test '
            'dataset (of a step with a data set of its own: data.test), or set '
            'skip_empty_steps=True to record such steps without scores'
        )
