"""A tiny data set, and a stock config put on it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from PIL import Image

from mmseg_cil.engine.config.files import read_config

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ('background', 'red', 'green', 'blue', 'grey')
PALETTE = [[0, 0, 0], [200, 30, 30], [30, 200, 30], [30, 30, 200], [128, 128, 128]]
STEPS = [['background', 'red', 'green'], ['blue', 'grey']]
#: Transforms whose sizes follow the crop, with the keys that hold them.
_SIZES = ('scale', 'scales', 'crop_size', 'img_scale', 'size')
ITERATIONS = 2


def write_data(folder: Path, size: int) -> Path:
    """Write six training and two test images of four coloured squares.

    Args:
        folder: Is made.
        size: Height and width of the crops; images are somewhat larger.
    """
    rng = np.random.default_rng(0)
    # As in the data sets of these configs, what a UNet divides its input by divides them.
    height, width = size + size // 4, size + size // 2
    for split, count in (('train', 6), ('val', 2)):
        names = [f'{split}_{i}' for i in range(count)]
        for name in names:
            mask = np.zeros((height, width), np.uint8)
            for i, label in enumerate(rng.permutation([1, 2, 3, 4])):
                top, left = (i // 2) * height // 2, (i % 2) * width // 2
                mask[top + 2 : top + height // 2 - 2, left + 2 : left + width // 2 - 2] = label
            mask[:2] = 255
            colours = np.array([*PALETTE, *[[90, 90, 90]] * 251], np.float64)[mask]
            image = np.clip(colours + rng.normal(0, 20, colours.shape), 0, 255).astype(np.uint8)
            for kind, array in (('images', image), ('masks', mask)):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(folder / kind / f'{name}.png')
        (folder / f'{split}.txt').write_text('\n'.join(names) + '\n')
    return folder


def on_tiny_data(
    stock: Config, data: Path, model: Mapping[str, Any], method: str, size: int
) -> Config:
    """Return a stock config with a tiny data set, a small network, a walk and a method.

    Pipelines keep their transforms, with small sizes; loaders, schedules, optimizers,
    hooks, loops, evaluators and the visualizer are the config's own.

    Args:
        stock: The stock config as it is read.
        data: Folder that :func:`write_data` has written.
        model: The small network.
        method: Name of a file in ``configs/_base_/methods``.
        size: Height and width of the crops.
    """
    content = copy.deepcopy(stock.to_dict())
    content['model'] = _fit_classes(copy.deepcopy(dict(model)))
    test = content.get('val_dataloader') or content['test_dataloader']
    loaders = {
        name: content.get(name) or copy.deepcopy(test)
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader')
    }
    for name, loader in loaders.items():
        split = 'train' if name == 'train_dataloader' else 'val'
        loader.update(
            num_workers=0, batch_size=2 if split == 'train' else 1, persistent_workers=False
        )
        loader['dataset'] = _dataset(data, split, _pipeline(loader['dataset'], size))
    content.update(loaders)
    if str(content['optim_wrapper'].get('type')).endswith('AmpOptimWrapper'):
        content['optim_wrapper'] = {**content['optim_wrapper'], 'type': 'OptimWrapper'}
        for key in ('loss_scale', 'dtype'):
            content['optim_wrapper'].pop(key, None)
    method_config = read_config(ROOT / f'configs/_base_/methods/{method}.py').method.to_dict()
    for hook in method_config.get('custom_hooks') or []:
        if hook['type'] == 'VDFDHook':
            hook['max_images'] = 2
    hooks = [*(content.get('custom_hooks') or []), dict(type='mmengine.QuickNormsHook')]
    content.update(
        custom_hooks=hooks,
        load_from=None,
        resume=False,
        log_level='WARNING',
        global_batch_size=2,
        protocol=dict(name='tiny', dataset='tiny', steps=STEPS, setting='overlapped'),
        method=method_config,
        step_overrides={0: dict(max_iters=ITERATIONS), 'later': dict(max_iters=ITERATIONS)},
    )
    return Config(content)


def _dataset(data: Path, split: str, pipeline: list[Any]) -> dict[str, Any]:
    return dict(
        type='BaseSegDataset',
        data_root=str(data),
        img_suffix='.png',
        seg_map_suffix='.png',
        metainfo=dict(classes=CLASSES, palette=PALETTE),
        ann_file=f'{split}.txt',
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        pipeline=pipeline,
    )


def _pipeline(dataset: Mapping[str, Any], size: int) -> list[Any]:
    """Return the pipeline of a data set, or of one that it wraps, with small sizes."""
    pipeline: Any = None
    node: Any = dataset
    while pipeline is None:
        pipeline = node.get('pipeline')
        inner = node.get('dataset') or node.get('datasets')
        node = inner[0] if isinstance(inner, (list, tuple)) else inner
    return [_small_transform(transform, size) for transform in pipeline]


def _small_transform(transform: Mapping[str, Any], size: int) -> dict[str, Any]:
    result = dict(copy.deepcopy(dict(transform)))
    # Masks are read as the data set has them.
    result.pop('reduce_zero_label', None)
    for key in _SIZES:
        value = result.get(key)
        if value is None or (key == 'scale' and result['type'] == 'PhotoMetricDistortion'):
            continue
        if key == 'scales':
            result[key] = [size, size + size // 8]
        else:
            result[key] = size if isinstance(value, int) else (size, size)
    if result['type'] in ('RandomResize', 'Resize'):
        # The images themselves: (W, H) of write_data.
        result['scale'] = (size + size // 2, size + size // 4)
    if 'max_size' in result:
        result['max_size'] = 4 * size
    return result


def _fit_classes(node: Any) -> Any:
    """Weights of classes for the classes of the tiny data set."""
    if isinstance(node, dict):
        return {
            key: list(value)[: len(CLASSES)]
            if key == 'class_weight' and isinstance(value, (list, tuple))
            else _fit_classes(value)
            for key, value in node.items()
        }
    if isinstance(node, (list, tuple)):
        return type(node)(_fit_classes(value) for value in node)
    return node
