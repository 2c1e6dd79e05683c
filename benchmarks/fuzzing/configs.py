"""Configs with a wrong value, a missing part or a misspelt key."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from fuzzing.world import ANY, REFUSED, TOLD, WORKS, Case, World, mutation

_WRONG: tuple[Any, ...] = (
    None,
    'many',
    -1,
    0,
    1.5,
    [],
    {},
    True,
    float('nan'),
    float('inf'),
    [1, 2, 3],
    {'type': 'NoSuchThing'},
    '',
    10**12,
    -0.5,
    (1, 'a'),
)

_LEAVES = (
    'train_dataloader.batch_size',
    'train_dataloader.num_workers',
    'train_dataloader.dataset',
    'train_dataloader.dataset.type',
    'train_dataloader.dataset.data_root',
    'train_dataloader.dataset.ann_file',
    'train_dataloader.dataset.img_suffix',
    'train_dataloader.dataset.seg_map_suffix',
    'train_dataloader.dataset.data_prefix',
    'train_dataloader.dataset.metainfo',
    'train_dataloader.dataset.metainfo.classes',
    'train_dataloader.dataset.pipeline',
    'train_dataloader.dataset.pipeline.2.crop_size',
    'train_dataloader.dataset.pipeline.3.prob',
    'test_dataloader',
    'test_dataloader.dataset',
    'test_dataloader.batch_size',
    'test_dataloader.dataset.pipeline',
    'test_dataloader.dataset.ann_file',
    'default_scope',
    'protocol',
    'protocol.name',
    'protocol.steps',
    'protocol.setting',
    'protocol.dataset',
    'protocol.preset',
    'protocol.policy',
    'protocol.class_order',
    'method',
    'method.name',
    'method.distillers',
    'method.regularisers',
    'method.loss_decode',
    'method.classifier_init',
    'method.custom_hooks',
    'method.memory',
    'method.teachers',
    'global_batch_size',
    'model',
    'model.type',
    'model.backbone',
    'model.backbone.depth',
    'model.backbone.norm_cfg',
    'model.backbone.in_channels',
    'model.backbone.out_indices',
    'model.backbone.strides',
    'model.backbone.dilations',
    'model.decode_head',
    'model.decode_head.in_channels',
    'model.decode_head.in_index',
    'model.decode_head.channels',
    'model.decode_head.num_convs',
    'model.decode_head.dropout_ratio',
    'model.decode_head.loss_decode',
    'model.decode_head.ignore_index',
    'model.decode_head.align_corners',
    'model.auxiliary_head',
    'model.auxiliary_head.in_index',
    'model.data_preprocessor',
    'model.data_preprocessor.mean',
    'model.data_preprocessor.std',
    'model.data_preprocessor.size',
    'model.data_preprocessor.seg_pad_val',
    'model.test_cfg',
    'model.test_cfg.mode',
    'model.train_cfg',
    'model.init_cfg',
    'model.pretrained',
    'optim_wrapper',
    'optim_wrapper.type',
    'optim_wrapper.optimizer',
    'optim_wrapper.optimizer.type',
    'optim_wrapper.optimizer.lr',
    'optim_wrapper.optimizer.momentum',
    'optim_wrapper.optimizer.weight_decay',
    'optim_wrapper.accumulative_counts',
    'optim_wrapper.clip_grad',
    'optim_wrapper.paramwise_cfg',
    'param_scheduler',
    'param_scheduler.0.type',
    'param_scheduler.0.power',
    'param_scheduler.0.end',
    'param_scheduler.0.by_epoch',
    'train_cfg',
    'train_cfg.type',
    'train_cfg.max_iters',
    'train_cfg.val_interval',
    'step_overrides',
    'step_overrides.0',
    'step_overrides.later',
    'step_overrides.later.lr',
    'step_overrides.later.max_iters',
    'default_hooks',
    'default_hooks.timer',
    'default_hooks.logger',
    'default_hooks.logger.interval',
    'default_hooks.checkpoint',
    'default_hooks.checkpoint.interval',
    'default_hooks.param_scheduler',
    'default_hooks.visualization',
    'log_processor',
    'log_processor.window_size',
    'randomness',
    'randomness.seed',
    'log_level',
    'env_cfg',
    'visualizer',
    'vis_backends',
    'custom_hooks',
    'custom_imports',
    'load_from',
    'resume',
    'test_evaluator',
    'val_cfg',
    'test_cfg',
    'skip_empty_steps',
    'find_unused_parameters',
    'start_from',
    'work_dir',
    'launcher',
    'tta_model',
    'sync_bn',
    'compile',
)


@mutation
def any_value_anywhere(world: World) -> Case:
    """Put an unfit value of any type at a place that means something."""
    world.set(world.rng.choice(_LEAVES), world.rng.choice(_WRONG))
    return Case(ANY)


@mutation
def two_values_anywhere(world: World) -> Case:
    """Put two unfit values at two places."""
    for path in world.rng.sample(_LEAVES, 2):
        value = world.rng.choice(_WRONG)
        # The first value may have taken the second one's place away.
        with contextlib.suppress(KeyError, TypeError, IndexError, AttributeError, ValueError):
            world.set(path, value)
    return Case(ANY)


@mutation
def a_part_is_missing(world: World) -> Case:
    """Delete one top-level part that no walk goes without."""
    key = world.rng.choice(
        [
            'protocol',
            'method',
            'model',
            'train_dataloader',
            'test_dataloader',
            'optim_wrapper',
            'train_cfg',
        ]
    )
    del world.cfg[key]
    word = 'test_dataloader' if key == 'test_dataloader' else key
    return Case(REFUSED, (word,))


@mutation
def not_a_number(world: World) -> Case:
    """Set a number that training uses to nan or infinity."""
    path = world.rng.choice(
        [
            'optim_wrapper.optimizer.lr',
            'optim_wrapper.optimizer.weight_decay',
            'optim_wrapper.optimizer.momentum',
            'param_scheduler.0.eta_min',
            'param_scheduler.0.power',
            'step_overrides.later.lr',
            'model.data_preprocessor.pad_val',
            'model.decode_head.dropout_ratio',
            'method.weight_of_mine',
        ]
    )
    if path == 'method.weight_of_mine':
        world.cfg['method']['loss_decode'] = {
            'type': 'CrossEntropyLoss',
            'loss_weight': float('nan'),
        }
        path = 'loss_weight'
    else:
        # Written as text, since repr(nan) is no Python.
        world.set(path, 0.123456789)
    value = world.rng.choice(["float('nan')", "float('inf')", "-float('inf')", '1e999'])
    lines = {
        key: repr(entry)
        .replace('0.123456789', value)
        .replace('nan,', f'{value},')
        .replace(': nan}', f': {value}}}')
        for key, entry in world.cfg.items()
    }
    world.cfg = {}
    world.extra_text = '\n'.join(f'{key} = {entry}' for key, entry in lines.items()) + '\n'
    return Case(REFUSED, (path.rpartition('.')[2],))


@mutation
def a_misspelt_key(world: World) -> Case:
    """Misspell a key that would otherwise do something."""
    where, right = world.rng.choice(
        [
            ('', 'step_overrides'),
            ('', 'global_batch_size'),
            ('', 'param_scheduler'),
            ('', 'default_hooks'),
            ('', 'randomness'),
            ('', 'skip_empty_steps'),
            ('', 'load_from'),
            ('', 'custom_hooks'),
            ('', 'train_dataloader'),
            ('', 'env_cfg'),
            ('', 'optim_wrapper'),
            ('randomness', 'seed'),
            ('randomness', 'deterministic'),
            ('step_overrides', 'later'),
            ('step_overrides.later', 'max_iters'),
            ('step_overrides.later', 'lr'),
            ('default_hooks', 'checkpoint'),
            ('default_hooks', 'logger'),
            ('default_hooks', 'param_scheduler'),
            ('default_hooks', 'visualization'),
            ('method', 'distillers'),
            ('method', 'classifier_init'),
            ('method', 'regularisers'),
            ('protocol', 'setting'),
            ('protocol', 'steps'),
            ('protocol', 'class_order'),
            ('env_cfg', 'cudnn_benchmark'),
            ('env_cfg', 'mp_cfg'),
        ]
    )
    place = world.rng.randrange(1, len(right) - 1)
    kinds = [
        right[:place] + right[place + 1 :],
        right + 's' if right[-1] != 's' else right[:-1],
        right[:place] + right[place] + right[place:],
    ]
    wrong = world.rng.choice([kind for kind in kinds if kind not in (right, 'l', 'r', 'lrs')])
    if right == 'lr':
        wrong = 'lrr'
    node = world.cfg
    for name in filter(None, where.split('.')):
        node = node.setdefault(name, {})
    node[wrong] = node.pop(right, {'seed': 7, 'setting': 'overlapped'}.get(right, 1))
    return Case(REFUSED, (wrong, right))


@mutation
def a_misspelt_type(world: World) -> Case:
    """Misspell the name of a registered type."""
    path = world.rng.choice(
        [
            'model',
            'model.backbone',
            'model.decode_head',
            'model.auxiliary_head',
            'model.data_preprocessor',
            'optim_wrapper',
            'optim_wrapper.optimizer',
            'param_scheduler.0',
            'train_dataloader.dataset',
            'test_dataloader.dataset',
            'default_hooks.timer',
            'train_dataloader.dataset.pipeline.0',
            'train_dataloader.dataset.pipeline.2',
            'test_dataloader.dataset.pipeline.1',
            'model.backbone.norm_cfg',
        ]
    )
    right = world.get(f'{path}.type')
    place = world.rng.randrange(1, max(2, len(right) - 1))
    wrong = right[:place] + right[place + 1 :] if len(right) > 2 else right + 'X'
    world.set(f'{path}.type', wrong)
    return Case(REFUSED, (wrong,))


@mutation
def an_unknown_class(world: World) -> Case:
    """Name a class in the protocol that the data set does not have, or one twice."""
    steps = world.get('protocol.steps')
    if world.rng.random() < 0.5:
        steps[world.rng.randrange(2)].append('purple')
        return Case(REFUSED, ('purple',))
    steps[1].append('red')
    return Case(REFUSED, ('red',))


@mutation
def transforms_out_of_order(world: World) -> Case:
    """Resize, crop or flip the image before its mask is there."""
    pipeline = world.get('train_dataloader.dataset.pipeline')
    first = world.rng.choice(
        [
            {'type': 'Resize', 'scale': (60, 50), 'keep_ratio': False},
            {'type': 'Resize', 'scale': (20, 26), 'keep_ratio': True},
            {
                'type': 'RandomResize',
                'scale': (60, 50),
                'ratio_range': (1.5, 2.0),
                'keep_ratio': True,
            },
        ]
    )
    pipeline.insert(1, first)
    return Case(REFUSED, ('mask', 'size', 'LoadAnnotations'))


@mutation
def a_transform_is_missing(world: World) -> Case:
    """Leave out the loading or the packing of one of the pipelines."""
    split = world.rng.choice(['train', 'test'])
    pipeline = world.get(f'{split}_dataloader.dataset.pipeline')
    kind = world.rng.choice(['LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs'])
    pipeline[:] = [entry for entry in pipeline if entry['type'] != kind]
    return Case(REFUSED, (kind, 'pipeline', 'gt_seg_map', 'img'))


@mutation
def channels_do_not_fit(world: World) -> Case:
    """Let image, backbone and heads disagree on their channels."""
    path, value = world.rng.choice(
        [
            ('model.decode_head.in_channels', 17),
            ('model.auxiliary_head.in_channels', 31),
            ('model.decode_head.in_index', 7),
            ('model.backbone.in_channels', 1),
            ('model.backbone.in_channels', 5),
            ('model.data_preprocessor.mean', [0.0, 0.0]),
            ('model.data_preprocessor.mean', [0.0] * 5),
        ]
    )
    world.set(path, value)
    if path.endswith('mean') and len(value) != 1:
        world.set('model.data_preprocessor.std', [1.0] * len(value))
    return Case(REFUSED)


@mutation
def a_test_mode_without_its_settings(world: World) -> Case:
    """Ask for a test mode that lacks its settings or does not exist."""
    settings = world.rng.choice(
        [
            {'mode': 'slide'},
            {'mode': 'slide', 'crop_size': (16, 16)},
            {'mode': 'slides'},
            {'mode': 'slide', 'stride': (8, 8)},
            {},
        ]
    )
    world.set('model.test_cfg', settings)
    return Case(REFUSED)


@mutation
def weights_of_classes(world: World) -> Case:
    """Weigh the classes of the whole data set in the heads' loss."""
    size = world.rng.choice([5, 4, 2, 7])
    for head in ('decode_head', 'auxiliary_head'):
        world.set(
            f'model.{head}.loss_decode',
            {'type': 'CrossEntropyLoss', 'loss_weight': 1.0, 'class_weight': [1.5] * size},
        )
    return Case(TOLD, ('class_weight',), ('class_weight',))


@mutation
def another_ignored_label(world: World) -> Case:
    """Ignore another label than 255 in the heads or in their loss."""
    value = world.rng.choice([0, 1, 254, -100, 3])
    for head in ('decode_head', 'auxiliary_head'):
        world.set(f'model.{head}.ignore_index', value)
    return Case(ANY, check=_no_nan)


@mutation
def further_losses(world: World) -> Case:
    """Give the heads a second loss beside cross-entropy."""
    kind = world.rng.choice(['DiceLoss', 'LovaszLoss', 'FocalLoss', 'TverskyLoss'])
    more: dict[str, Any] = {'type': kind, 'loss_name': 'loss_more', 'loss_weight': 2.0}
    if kind == 'LovaszLoss':
        more['per_image'] = True
    ce = {'type': 'CrossEntropyLoss', 'loss_name': 'loss_ce', 'loss_weight': 1.0}
    for head in ('decode_head', 'auxiliary_head'):
        world.set(f'model.{head}.loss_decode', [ce, more])
    return Case(TOLD, (kind, 'loss_decode'), (kind, 'loss_more'))


@mutation
def stock_hooks(world: World) -> Case:
    """Use the hooks and the visualizer that stand in every stock schedule."""
    world.set('default_hooks.visualization', {'type': 'SegVisualizationHook'})
    world.set('default_hooks.sampler_seed', {'type': 'DistSamplerSeedHook'})
    world.cfg['vis_backends'] = [{'type': 'LocalVisBackend'}]
    world.cfg['visualizer'] = {
        'type': 'SegLocalVisualizer',
        'name': 'visualizer',
        'vis_backends': [{'type': 'LocalVisBackend'}],
    }
    if world.rng.random() < 0.5:
        world.set(f'default_hooks.{world.rng.choice(["timer", "sampler_seed"])}', None)
    return Case(WORKS)


@mutation
def it_diverges(world: World) -> Case:
    """Train with a learning rate at which the loss becomes infinite."""
    rate = world.rng.choice([1e12, 1e20, 1e30])
    world.cfg['step_overrides'] = {0: {'lr': rate, 'max_iters': 6}, 'later': {'max_iters': 2}}
    return Case(ANY, check=_no_nan)


@mutation
def the_file_is_no_config(world: World) -> Case:
    """Break the Python of the config file."""
    world.extra_text = world.rng.choice(
        [
            'model = dict(\n',
            'import nothing_of_this_name\n',
            'x = 1 / 0\n',
            'raise SystemExit(0)\n',
            '_base_ = ["nowhere.py"]\n',
            '_base_ = ["config.py"]\n',
            'model = undefined_name\n',
            'def f(:\n',
            '\x00',
            '    indented = 1\n',
            'custom_imports = dict(imports=["nothing_of_this_name"])\n',
        ]
    )
    return Case(REFUSED, ('config',))


def _no_nan(folder: Path) -> str | None:
    import torch

    for path in sorted(folder.glob('w/step_*/checkpoint.pth')):
        state = torch.load(path, weights_only=True)['state_dict']
        if not all(torch.isfinite(value).all() for value in state.values()):
            return f'{path.parent.name} ends with weights that are not finite'
    return None
