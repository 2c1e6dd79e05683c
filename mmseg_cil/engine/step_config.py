"""From a user's config to the MMEngine config of one step."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmseg_cil.datasets.exemplar_memory import MemorySettings
from mmseg_cil.datasets.meaning import reference_of
from mmseg_cil.engine.model_losses import StepClasses
from mmseg_cil.engine.overrides import (
    apply_overrides,
    drop_protocol_overrides,
    overrides_of_step,
)
from mmseg_cil.engine.preflight.names import near
from mmseg_cil.engine.step_evaluation import set_evaluation
from mmseg_cil.engine.step_hooks import set_hooks
from mmseg_cil.engine.step_model import StepInputs, model_of_step, step_context_config
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.step_checkpoint_hook import RESUME_NAME
from mmseg_cil.protocols import Protocol

#: What a method may consist of.
METHOD_KEYS = (
    'name',
    'loss_decode',
    'distillers',
    'regularisers',
    'self_supervision',
    'classifier_init',
    'network_change',
    'custom_hooks',
    'memory',
    'teachers',
    'teacher_draw',
    'sub_steps',
    'protocol_overrides',
)


def method_of(cfg: Config, protocol_name: str) -> dict[str, Any]:
    """The method of a config, with what it says of this protocol merged in.

    Raises:
        InputError: There is no method, or it has unknown or ill-typed parts.
    """
    method = cfg.get('method')
    if not isinstance(method, Mapping) or 'name' not in method:
        raise InputError(
            "the config has no method: add a base such as '_base_/methods/mib.py', "
            "or method=dict(name='finetune')"
        )
    unknown = sorted(set(method) - set(METHOD_KEYS))
    if unknown:
        meant = near(str(unknown[0]), METHOD_KEYS)
        hint = f'did you mean {meant!r}? A' if meant else 'a'
        raise InputError(
            f'method {method["name"]!r} has the unknown keys {unknown}: {hint} method '
            f'consists of {list(METHOD_KEYS)}'
        )
    for key in ('distillers', 'regularisers', 'custom_hooks', 'sub_steps'):
        if not isinstance(method.get(key) or [], (list, tuple)):
            raise InputError(
                f'method {method["name"]!r}: {key} must be a list of configs, not {method[key]!r}'
            )
    if method.get('teachers') not in (None, 'all'):
        raise InputError(
            f"method {method['name']!r}: teachers must be 'all' (the snapshots of all "
            f'earlier steps) or None, not {method["teachers"]!r}'
        )
    merged = Config(dict(method=copy.deepcopy(dict(method))))
    changes = merged.method.pop('protocol_overrides', {}).get(protocol_name, {})
    for key, value in changes.items():
        try:
            merged.merge_from_dict({f'method.{key}': value})
        except Exception as error:
            raise InputError(
                f'method.{key} = {value!r} does not fit method {method["name"]!r} as it is for '
                f'{protocol_name} (see its protocol_overrides): {error}'
            ) from error
    result: dict[str, Any] = merged.method.to_dict()
    return result


def reads_all_teachers(method: Mapping[str, Any]) -> bool:
    """Whether a method (of :func:`method_of`) learns from the snapshots of all earlier steps."""
    return method.get('teachers') == 'all'


def memory_settings(cfg: Config, protocol_name: str) -> MemorySettings | None:
    """What the method says of its exemplar memory; None where it keeps none.

    Raises:
        InputError: A value is wrong, or as :func:`method_of`.
    """
    settings = MemorySettings.from_config(method_of(cfg, protocol_name).get('memory'))
    if settings is not None and settings.ratio is not None and drops_partial(cfg):
        raise InputError(
            'train_dataloader.sampler.drop_partial ends every pass over the images with a whole '
            'batch, but method.memory.ratio draws images without passes: leave one out'
        )
    return settings


def global_batch_size(cfg: Config, world_size: int) -> int:
    """Images an iteration over all processes.

    ``global_batch_size`` of the config, or, where it has none, MMSegmentation's
    meaning of ``train_dataloader.batch_size``: that many for each process.
    """
    total = cfg.get('global_batch_size')
    return total or cfg.train_dataloader.batch_size * world_size


def step_iterations(
    cfg: Config, protocol: Protocol, images: Sequence[int], global_batch: int
) -> list[int]:
    """Iterations of every step of the walk; 0 where a step does not train."""
    result = []
    first = first_trained(protocol, images)
    for step in range(len(protocol.steps)):
        overrides = overrides_of_step(cfg.get('step_overrides'), step, first)
        length = apply_overrides(copy.deepcopy(cfg), overrides, images[step], global_batch)
        result.append(length if protocol.trains(step) and images[step] else 0)
    return result


def first_trained(protocol: Protocol, images: Sequence[int]) -> int:
    """The first step with something to learn: images, and more than the background alone."""
    return next(
        (step for step in range(len(protocol.steps)) if protocol.trains(step) and images[step]), 0
    )


def overrides_by_index(cfg: Config, num_steps: int) -> dict[int, dict[str, Any]]:
    """The entries of ``step_overrides`` that are for one step alone.

    Raises:
        InputError: One is for a step that the walk does not have.
    """
    entries = {
        int(key): dict(value)
        for key, value in (cfg.get('step_overrides') or {}).items()
        if key != 'later'
    }
    if entries and max(entries) >= num_steps:
        raise InputError(
            f'step_overrides has an entry for step {max(entries)}, but the walk has '
            f'the steps 0..{num_steps - 1} only: remove it'
        )
    return entries


def derive_step_config(
    cfg: Config,
    protocol: Protocol,
    step: int,
    inputs: StepInputs,
    work_dir: str | Path,
    world_size: int = 1,
    planned: Collection[int] | None = None,
) -> Config:
    """Derives the config of one step; nothing in ``cfg`` itself says "step k".

    Args:
        cfg: The user's config: plain MMSegmentation, ``protocol`` and ``method``.
        protocol: Built from ``cfg.protocol``.
        step: The step.
        inputs: What it begins with.
        work_dir: Of the walk.
        world_size: Processes.
        planned: Steps that are to be walked now, for the estimate of time. All
            by default.
    """
    batch = global_batch_size(cfg, world_size)
    result, max_iters = overridden_config(cfg, protocol, step, inputs.images, batch)
    # Read after the overrides, which may change the method and the network too.
    method = method_of(result, protocol.name)
    lengths = step_iterations(cfg, protocol, inputs.images, batch)
    folder = step_folder(work_dir, step)
    result.merge_from_dict(
        {
            'default_scope': 'mmseg_cil',
            'work_dir': str(folder),
            'experiment_name': f'{Path(work_dir).resolve().name}_step_{step:02d}',
            'load_from': str(folder / RESUME_NAME)
            if inputs.resume
            else cfg.get('load_from')
            if step == 0
            else None,
            'resume': inputs.resume,
        }
    )
    result.model = model_of_step(
        result.model,
        method,
        step_context_config(protocol, step, lengths),
        inputs,
        StepClasses.of(protocol, step),
    )
    _set_data(result, step, batch, world_size, str(work_dir), protocol.pools_splits)
    if inputs.exemplars is not None:
        _set_replay(result, inputs.exemplars, memory_settings(result, protocol.name))
    set_evaluation(result, protocol, step, introduced_names(protocol, step))
    ahead = [
        length if planned is None or one in planned else 0 for one, length in enumerate(lengths)
    ]
    set_hooks(result, method, step, ahead, world_size, run_seed(result))
    if method.get('regularisers') or any(
        one.get('optimizer') for one in method.get('distillers') or []
    ):
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
        protocol: Built from ``cfg.protocol``.
        step: The step.
        images: Training images of every step.
        global_batch: Images an iteration, over all processes.
    """
    result = copy.deepcopy(cfg)
    overrides = overrides_of_step(cfg.get('step_overrides'), step, first_trained(protocol, images))
    max_iters = apply_overrides(result, overrides, images[step], global_batch)
    drop_protocol_overrides(result, overrides)
    return result, max_iters


def introduced_names(protocol: Protocol, step: int) -> list[list[str]]:
    """Names of the classes (or domains) that each step up to this one brought."""
    names = protocol.taxonomy.names
    return [
        list(one.domains) if protocol.kind == 'domain' else [names[i] for i in one.new]
        for one in protocol.steps[: step + 1]
    ]


def step_folder(work_dir: str | Path, step: int) -> Path:
    """``WORK_DIR/step_XX``."""
    return Path(work_dir) / f'step_{step:02d}'


def run_seed(cfg: Config) -> int:
    """The run's seed: ``randomness.seed``, 0 where it is not given."""
    seed = (cfg.get('randomness') or {}).get('seed')
    return 0 if seed is None else int(seed)


def dataset_configs(cfg: Config) -> tuple[dict, dict]:
    """Config of the training dataset and of the test dataset (the val one where there is no test).

    Raises:
        InputError: One of them is missing.
    """
    train = (cfg.get('train_dataloader') or {}).get('dataset')
    test = ((cfg.get('test_dataloader') or cfg.get('val_dataloader')) or {}).get('dataset')
    if train is None or test is None:
        raise InputError(
            'the config needs train_dataloader.dataset and test_dataloader.dataset '
            '(or val_dataloader.dataset)'
        )
    return train, test


def validation_dataset(cfg: Config, pools_splits: bool) -> Mapping[str, Any] | None:
    """Return the dataset that training is validated with; None where it is that of the tests.

    A protocol that pools the splits chooses its test images itself, for both.
    """
    own = (cfg.get('val_dataloader') or {}).get('dataset')
    test = (cfg.get('test_dataloader') or {}).get('dataset')
    if pools_splits or own is None or test is None or own == test:
        return None
    return own


def dataset_of_step(
    cfg: Config,
    step: int,
    split: str,
    work_dir: str,
    pools_splits: bool,
    tested: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Config of the view of the data at a step, for 'train' or 'test'.

    Args:
        cfg: The user's config.
        step: The step.
        split: 'train' or 'test'.
        work_dir: Of the walk.
        pools_splits: Whether the protocol draws from both splits together.
        tested: The dataset to test with, where it is not the test dataset.
    """
    train, test = dataset_configs(cfg)
    if tested is not None:
        test = dict(tested)
    own = train if split == 'train' else test
    dataset: Any = [train, test] if pools_splits else own
    reference = None if pools_splits or split == 'train' else reference_of(train, test)
    return dict(
        type='IncrementalDataset',
        dataset=dataset,
        pipeline=first_value(own, 'pipeline'),
        protocol=dict(cfg.protocol),
        step=step,
        split=split,
        seed=run_seed(cfg),
        # Where the folder beside the data, which goes first, cannot be written.
        cache_dirs=[str(Path(work_dir) / 'class_index')],
        skip_empty=bool(cfg.get('skip_empty_steps', False)),
        **({'reference': reference} if reference else {}),
    )


def first_value(dataset: Mapping[str, Any], key: str) -> Any:
    """The first value of a key in a dataset's config or those it wraps."""
    if dataset.get(key) is not None:
        return dataset[key]
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    for one in inner:
        if isinstance(one, Mapping) and first_value(one, key) is not None:
            return first_value(one, key)
    return None


def drops_partial(cfg: Config) -> bool:
    """Whether a pass over the training images ends with its last whole batch.

    The config says so by ``train_dataloader.sampler.drop_partial``.
    """
    loader = cfg.get('train_dataloader') or {}
    return bool((loader.get('sampler') or {}).get('drop_partial'))


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


def _set_replay(cfg: Config, exemplars: str, settings: MemorySettings | None) -> None:
    if settings is None:
        return
    loader = cfg.train_dataloader
    loader.dataset['exemplars'] = dict(file=exemplars, labels=settings.labels)
    if settings.ratio is not None:
        loader.sampler.update(type='ReplaySampler', ratio=settings.ratio)


def _set_loops(cfg: Config, trains: bool, max_iters: int) -> None:
    """Drops what the step does not do: training, or validation in between."""
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
    """Lets parts of a method have optimizers of their own, beside the network's as asked for."""
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
