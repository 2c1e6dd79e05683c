"""From a user's config to the MMEngine config of one step."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from mmengine.config import Config

from mmseg_cil.engine.config.first_step import is_trained_elsewhere
from mmseg_cil.engine.config.further_map import add_further_map
from mmseg_cil.engine.config.length import first_trained, global_batch_size, step_iterations
from mmseg_cil.engine.config.method import find_method, memory_settings
from mmseg_cil.engine.config.model_losses import StepClasses
from mmseg_cil.engine.config.protocol_pieces import settle
from mmseg_cil.engine.config.step_evaluation import set_evaluation
from mmseg_cil.engine.config.step_hooks import set_hooks
from mmseg_cil.engine.config.step_model import StepInputs, model_of_step, step_context_config
from mmseg_cil.engine.config.step_overrides import (
    apply_overrides,
    overrides_of_step,
)
from mmseg_cil.engine.data import dataset_of_step, drops_partial, validation_dataset
from mmseg_cil.engine.paths import run_seed, step_folder
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME
from mmseg_cil.memory.memory import MemorySettings
from mmseg_cil.protocols import Protocol


def derive_step_config(
    cfg: Config,
    protocol: Protocol,
    step: int,
    inputs: StepInputs,
    work_dir: str | Path,
    world_size: int = 1,
    planned: Collection[int] | None = None,
) -> Config:
    """Derive the config of one step from the user's config, which is the same for all steps.

    Args:
        cfg: The user's config: plain MMSegmentation, ``protocol`` and ``method``.
        protocol: Protocol built from ``cfg.protocol``.
        step: The step.
        inputs: Inputs that the step begins with.
        work_dir: Work directory of the walk.
        world_size: Number of processes.
        planned: Steps that are to be walked now, for the estimate of time. All
            by default.
    """
    batch = global_batch_size(cfg, world_size)
    result, max_iters = overridden_config(cfg, protocol, step, inputs.images, batch)
    # The method is read after the overrides, which may change the method and the network too.
    method = find_method(result, protocol.name)
    lengths = step_iterations(cfg, protocol, inputs.images, batch)
    begins_from = cfg.get('load_from') if step == 0 else None
    _set_place(result, step, work_dir, inputs.resume, begins_from)
    result.model = model_of_step(
        result.model,
        method,
        step_context_config(protocol, step, lengths),
        inputs,
        StepClasses.of(protocol, step),
    )
    if result.get('channels_last'):
        result.model['channels_last'] = True
    _set_data(result, step, batch, world_size, str(work_dir), protocol.pools_splits)
    if step == 0 and is_trained_elsewhere(cfg):
        _set_borrowed(result, protocol, inputs.images)
    if method.further_map:
        add_further_map(result, method.further_map)
    if inputs.exemplars is not None:
        _set_replay(result, inputs.exemplars, memory_settings(result, protocol.name))
    set_evaluation(result, protocol, step, introduced_names(protocol, step))
    ahead = [
        length if planned is None or index in planned else 0 for index, length in enumerate(lengths)
    ]
    set_hooks(result, method, step, ahead, world_size, run_seed(result))
    own_optimizers = any(part.get('optimizer') for part in method.distillers)
    if method.regularisers or own_optimizers or (method.freezing or {}).get('rates'):
        _set_constructor(result.optim_wrapper)
    _set_loops(result, lengths[step] > 0, max_iters)
    _set_distribution(result)
    return result


def overridden_config(
    cfg: Config, protocol: Protocol, step: int, images: Sequence[int], global_batch: int
) -> tuple[Config, int]:
    """Return the user's config with the overrides of one step, and its number of iterations.

    Args:
        cfg: The user's config; not changed.
        protocol: Protocol built from ``cfg.protocol``.
        step: The step.
        images: Training images of every step.
        global_batch: Images per iteration, over all processes.
    """
    result = copy.deepcopy(cfg)
    overrides = overrides_of_step(
        cfg.get('step_overrides'), step, first_trained(cfg, protocol, images)
    )
    max_iters = apply_overrides(settle(result), overrides, images[step], global_batch)
    return result, max_iters


def introduced_names(protocol: Protocol, step: int) -> list[list[str]]:
    """Return the names of the classes (or domains) that each step up to this one brought."""
    names = protocol.taxonomy.names
    return [
        list(each.domains) if protocol.kind == 'domain' else [names[i] for i in each.new]
        for each in protocol.steps[: step + 1]
    ]


def _set_place(
    cfg: Config, step: int, work_dir: str | Path, resume: bool, begins_from: str | None
) -> None:
    """Set the folder of a step's files, and the checkpoint that its training goes on from."""
    folder = step_folder(work_dir, step)
    cfg.merge_from_dict(
        {
            'default_scope': 'mmseg_cil',
            'work_dir': str(folder),
            'experiment_name': f'{Path(work_dir).resolve().name}_step_{step:02d}',
            'load_from': str(folder / RESUME_NAME) if resume else begins_from,
            'resume': resume,
        }
    )


def _set_data(
    cfg: Config, step: int, batch: int, world_size: int, work_dir: str, pools: bool
) -> None:
    datasets = {
        split: dataset_of_step(cfg, step, split, work_dir, pools) for split in ('train', 'test')
    }
    own = validation_dataset(cfg, pools)
    loader = cfg.train_dataloader
    loader.update(batch_size=batch // world_size)
    loader['dataset'] = datasets['train']
    whole = dict(whole_batches=batch) if drops_partial(cfg) else {}
    # A seed of its own for every step: equal sizes must not mean equal orders.
    loader['sampler'] = dict(
        type='GlobalPositionSampler', seed=run_seed(cfg) + 7919 * step, **whole
    )
    loader.pop('batch_sampler', None)
    if not loader.get('num_workers'):
        loader['persistent_workers'] = False
    for name in ('val_dataloader', 'test_dataloader'):
        loader = cfg.get(name) or copy.deepcopy(cfg.get('val_dataloader')) or {}
        loader = Config(dict(loader=loader)).loader
        loader['dataset'] = datasets['test']
        if name == 'val_dataloader' and own is not None:
            loader['dataset'] = {
                **dataset_of_step(cfg, step, 'test', work_dir, pools, own),
                'skip_empty': True,
            }
        # Without padding every image counts once, however many processes there are.
        loader['sampler'] = dict(type='DefaultSampler', shuffle=False, round_up=False)
        if not loader.get('num_workers'):
            loader['persistent_workers'] = False
        cfg[name] = loader


def _set_borrowed(cfg: Config, protocol: Protocol, images: Sequence[int]) -> None:
    """Let a first step that was trained elsewhere look at later images.

    The step does so where it has no images, or where the data do not label all of its classes:
    its own images are gone.
    """
    cfg.test_dataloader.dataset['skip_empty'] = True
    later = [step for step, count in enumerate(images) if count and step]
    first = protocol.steps[0]
    labelled = any(first.data) or protocol.taxonomy.labels_all(first.new)
    if later and not (images[0] and labelled):
        cfg.train_dataloader.dataset['images_of'] = later[0]


def _set_replay(cfg: Config, exemplars: str, settings: MemorySettings | None) -> None:
    if settings is None:
        return
    loader = cfg.train_dataloader
    loader.dataset['exemplars'] = dict(file=exemplars, labels=settings.labels)
    if settings.ratio is not None:
        loader.sampler.update(type='ReplaySampler', ratio=settings.ratio)


def _set_loops(cfg: Config, trains: bool, max_iters: int) -> None:
    """Drop the loops that the step does not run: training, or validation during training."""
    if trains:
        cfg.train_cfg.update(type='IterBasedTrainLoop')
        cfg.train_cfg.setdefault('val_interval', max_iters + 1)
    else:
        for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
            cfg[key] = None
    if not trains or cfg.train_cfg.val_interval > max_iters:
        for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
            cfg[key] = None


def _set_constructor(optim_wrapper: dict) -> None:
    """Let a method have optimizers and learning rates; the network keeps its constructor."""
    network = optim_wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
    optim_wrapper.update(
        constructor='RegulariserOptimWrapperConstructor', network_constructor=network
    )


def _set_distribution(cfg: Config) -> None:
    if torch.cuda.is_available():
        return
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=bool(cfg.get('find_unused_parameters', False)),
    )
