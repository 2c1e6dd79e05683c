"""The datasets of a config, and views of them at a step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.datasets import IncrementalDataset
from mmseg_cil.datasets.kept_masks import KEY as KEEP_MASKS
from mmseg_cil.datasets.meaning import reference_of
from mmseg_cil.engine.paths import run_seed
from mmseg_cil.engine.preflight.building import part
from mmseg_cil.errors import InputError
from mmseg_cil.registry import DATASETS


def open_view(
    cfg: Config,
    split: str,
    work_dir: str,
    pools_splits: bool,
    tested: Mapping[str, Any] | None = None,
) -> IncrementalDataset:
    """Open a view of all images of a split, for counting them.

    Args:
        cfg: The user's config.
        split: 'train' or 'test'.
        work_dir: Work directory of the walk.
        pools_splits: Whether the protocol draws from both splits together.
        tested: The dataset to test with, where it is not the test dataset.

    Raises:
        InputError: The dataset, its pipeline or the protocol is wrong.
    """
    config = dataset_of_step(cfg, 0, split, work_dir, pools_splits, tested)
    name = split if tested is None else 'validation'
    with part(f'the {name} dataset or its pipeline'):
        # Counting is not training: a step without images is refused (or not) by the caller.
        view: IncrementalDataset = DATASETS.build(dict(config, skip_empty=True, whole=True))
    return view


def dataset_of(cfg: Mapping[str, Any], split: str) -> Any:
    """Return the dataset that a config trains with, or tests with; None where there is none.

    The validation dataset takes the place of the test dataset where there is none.

    Args:
        cfg: A config of MMSegmentation.
        split: ``'train'`` or ``'test'``.
    """
    loader = cfg.get(f'{split}_dataloader')
    if split == 'test':
        loader = loader or cfg.get('val_dataloader')
    return (loader or {}).get('dataset')


def dataset_configs(cfg: Config) -> tuple[dict, dict]:
    """Return the configs of the training dataset and of the test dataset.

    Raises:
        InputError: One of them is missing.
    """
    train, test = dataset_of(cfg, 'train'), dataset_of(cfg, 'test')
    if train is None or test is None:
        raise InputError(
            'the config needs train_dataloader.dataset and test_dataloader.dataset '
            '(or val_dataloader.dataset)'
        )
    return train, test


def validation_dataset(cfg: Config, pools_splits: bool) -> Mapping[str, Any] | None:
    """Return the dataset that training is validated with; None where it is the test dataset.

    A protocol that pools the splits chooses its test images itself, for tests and validation.
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
    """Return the config of the view of the data at a step, for 'train' or 'test'.

    Args:
        cfg: The user's config.
        step: The step.
        split: 'train' or 'test'.
        work_dir: Work directory of the walk.
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
        # Used where the folder beside the data, which is tried first, cannot be written.
        cache_dirs=[str(Path(work_dir) / 'class_index')],
        skip_empty=bool(cfg.get('skip_empty_steps', False)),
        **({'reference': reference} if reference else {}),
        # A test loads each image once.
        **({KEEP_MASKS: cfg[KEEP_MASKS]} if split == 'train' and cfg.get(KEEP_MASKS) else {}),
    )


def first_value(dataset: Mapping[str, Any], key: str) -> Any:
    """Return the first value of a key in a dataset's config or in those that it wraps."""
    if dataset.get(key) is not None:
        return dataset[key]
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    for wrapped in inner:
        if isinstance(wrapped, Mapping) and first_value(wrapped, key) is not None:
            return first_value(wrapped, key)
    return None


def drops_partial(cfg: Config) -> bool:
    """Return whether a pass over the training images ends with its last whole batch.

    The config asks for this by ``train_dataloader.sampler.drop_partial``.
    """
    loader = cfg.get('train_dataloader') or {}
    return bool((loader.get('sampler') or {}).get('drop_partial'))
