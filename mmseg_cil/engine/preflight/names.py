"""Names of settings that nothing reads, and the names that were probably meant."""

from __future__ import annotations

import ast
import inspect
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing

from mmseg_cil.engine.config.files import files_of
from mmseg_cil.errors import InputError
from mmseg_cil.utils.near import near

ALLOW = 'allow_unknown_keys'
#: The names that this package reads at the top level of a config.
_OURS = (
    'protocol',
    'method',
    'step_overrides',
    'global_batch_size',
    'skip_empty_steps',
    'start_from',
    'as_published',
    'rehearsal',
    'allow_partial_weights',
    'channels_last',
    'keep_masks',
    # Read by tools/grid.py; a walk of one config alone ignores it.
    'grid',
    ALLOW,
)
#: The names that MMEngine's Runner reads.
_RUNNER = (
    'model',
    'work_dir',
    'train_dataloader',
    'val_dataloader',
    'test_dataloader',
    'train_cfg',
    'val_cfg',
    'test_cfg',
    'auto_scale_lr',
    'optim_wrapper',
    'param_scheduler',
    'val_evaluator',
    'test_evaluator',
    'default_hooks',
    'custom_hooks',
    'data_preprocessor',
    'load_from',
    'resume',
    'launcher',
    'env_cfg',
    'log_processor',
    'log_level',
    'visualizer',
    'default_scope',
    'randomness',
    'experiment_name',
    'custom_imports',
    'model_wrapper_cfg',
    'find_unused_parameters',
    'sync_bn',
    'compile',
    'activation_checkpointing',
    'efficient_conv_bn_eval',
)
MEANT = (*_OURS, *_RUNNER)
#: Variables of MMSegmentation's own configs, of which other settings are made.
_VARIABLES = (
    'albu_train_transforms', 'backbone_embed_multi', 'backbone_norm_cfg', 'backbone_norm_multi',
    'checkpoint', 'checkpoint_file', 'class_weight', 'classes', 'conv_kernel_size', 'crop_size',
    'custom_keys', 'data_root', 'dataset_aug', 'dataset_train', 'dataset_type', 'depths',
    'embed_multi', 'fp16', 'ham_norm_cfg', 'img_prefix', 'img_ratios', 'img_scale', 'iters',
    'metainfo', 'models', 'norm_cfg', 'num_classes', 'num_stages', 'optimizer', 'palette',
    'pretrained', 'runner', 'stable_diffusion_cfg', 'test_pipeline', 'total_iters', 'train_ann',
    'train_pipeline', 'tta_model', 'tta_pipeline', 'used_labels', 'val_ann', 'val_pipeline',
    'vis_backends')  # fmt: skip
#: Settings of MMSegmentation 0.x, which nothing reads any more, and their successors.
_FORMER = {
    'data': 'train_dataloader, test_dataloader', 'lr_config': 'param_scheduler',
    'optimizer_config': 'optim_wrapper.clip_grad', 'checkpoint_config': 'default_hooks.checkpoint',
    'log_config': 'default_hooks.logger', 'evaluation': 'train_cfg.val_interval',
    'dist_params': 'env_cfg.dist_cfg', 'seed': 'randomness.seed', 'resume_from': 'resume',
    'cudnn_benchmark': 'env_cfg.cudnn_benchmark', 'workflow': 'train_cfg', 'gpu_ids': '--launcher',
}  # fmt: skip
#: Keys of a step's overrides that are no dotted keys of the config.
SHORT = ('lr', 'max_iters', 'max_epochs')
#: Settings that hold for the whole walk, and would be ignored in the overrides of a step.
_OF_WALK = (
    'protocol',
    'step_overrides',
    'global_batch_size',
    'skip_empty_steps',
    'start_from',
    'work_dir',
    'resume',
    'launcher',
    'load_from',
    'custom_imports',
    'as_published',
    'allow_partial_weights',
    'keep_masks',
    ALLOW,
)
#: The hooks that MMEngine has by default.
_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
    'visualization',
)


def check_names(cfg: Config) -> None:
    """Refuse misspelt names at the top of a config and in the parts that nothing else checks.

    At the top, a config may have variables of its own. A name that the config's files read, or
    that MMSegmentation's configs have, is taken for a variable. Another unknown name is refused
    where it is like the name of a setting, and otherwise only reported.
    ``allow_unknown_keys=['NAME', ...]``, or True, allows unknown names.

    Args:
        cfg: The user's config.

    Raises:
        InputError: A name at the top or of a hook is like another that was probably meant, or
            one of the other parts has an unknown name.
    """
    allowed = cfg.get(ALLOW)
    if allowed is True:
        return
    if allowed is not None and (
        isinstance(allowed, str)
        or not isinstance(allowed, Collection)
        or not all(isinstance(allowed_name, str) for allowed_name in allowed)
    ):
        raise InputError(f'{ALLOW} is {allowed!r}; use True or a list of names')
    allowed = frozenset(allowed or ())
    _check_top(cfg, allowed)
    for where, known in _parts(cfg):
        part = value_at(cfg, where)
        for name in part if isinstance(part, Mapping) else ():
            if name not in known and f'{where}.{name}' not in allowed:
                _refuse(f'{where}.{name}', near(str(name), known), known)
    hooks = cfg.get('default_hooks')
    for name in hooks if isinstance(hooks, Mapping) else ():
        meant = near(str(name), _HOOKS)
        if name not in _HOOKS and meant and f'default_hooks.{name}' not in allowed:
            _refuse(f'default_hooks.{name}', meant, _HOOKS)
    _check_overrides(cfg, allowed)


def _check_top(cfg: Config, allowed: Collection[str]) -> None:
    unknown = [
        name
        for name in cfg
        if name not in (*MEANT, *_VARIABLES)
        and name not in allowed
        and not str(name).startswith('_')
    ]
    if not unknown:
        return
    used = read_names(cfg.filename)
    unknown = [name for name in unknown if name not in used]
    for name in unknown:
        meant = near(name, MEANT)
        if meant:
            raise InputError(
                f'the config sets {name!r}, which nothing reads: did you mean {meant!r}? If it is '
                f'a variable of your own, add {ALLOW}=[{name!r}] to the config'
            )
    if unknown:
        told = [
            f'{name} ({_FORMER[name]} took its place)' if name in _FORMER else name
            for name in unknown
        ]
        print_log(
            f'the config sets what nothing reads: {", ".join(told)} (add {ALLOW}={unknown!r} '
            'to keep this note away)',
            'current',
            logging.WARNING,
        )


def _parts(cfg: Config) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the parts whose unknown keys would be ignored, with the keys that they may have."""
    yield 'randomness', _arguments(Runner.set_randomness)
    yield 'env_cfg', ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')
    yield 'env_cfg.mp_cfg', _arguments(set_multi_processing)
    yield 'auto_scale_lr', ('enable', 'base_batch_size')
    hook = value_at(cfg, 'default_hooks.checkpoint')
    kind = hook.get('type') if isinstance(hook, Mapping) else None
    if str(kind).rpartition('.')[2] == 'CheckpointHook':
        yield (
            'default_hooks.checkpoint',
            ('type', 'priority', 'max_minutes', *_arguments(CheckpointHook.__init__)),
        )


def _arguments(function: Any) -> tuple[str, ...]:
    return tuple(
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ('self', 'distributed') and parameter.kind is not parameter.VAR_KEYWORD
    )


def _check_overrides(cfg: Config, allowed: Collection[str]) -> None:
    """Refuse keys of ``step_overrides`` that would change nothing."""
    overrides = cfg.get('step_overrides')
    for step, entry in overrides.items() if isinstance(overrides, Mapping) else ():
        for key in entry if isinstance(entry, Mapping) else ():
            if key not in SHORT and key not in allowed:
                _check_override(cfg, f'step_overrides[{step!r}]', str(key))


def _check_override(cfg: Config, where: str, key: str) -> None:
    names, node = key.split('.'), cfg._cfg_dict
    if names[0] in _OF_WALK:
        raise InputError(
            f'{where} sets {key}, but {names[0]} holds for the whole walk: set it '
            'at the top level of the config'
        )
    if names[0] not in node and names[0] not in MEANT:
        known = (*SHORT, *MEANT, *node)
        _refuse(f'{where} sets {key}: {names[0]}', near(names[0], known), (*SHORT, *MEANT))
    for place, name in enumerate(names):
        if not isinstance(node, Mapping):
            # The numbers of list elements are checked when the override is applied.
            if (
                not isinstance(node, (list, tuple))
                or not name.isdecimal()
                or int(name) >= len(node)
            ):
                return
            node = node[int(name)]
            continue
        if name not in node:
            meant = near(name, [str(child) for child in node]) if place else None
            if meant:
                _refuse(f'{where} sets {key}: {".".join(names[: place + 1])}', meant, ())
            return
        node = node[name]


def _refuse(name: str, meant: str | None, known: Iterable[str]) -> None:
    hint = f'did you mean {meant!r}?' if meant else f'there are {", ".join(known)}'
    raise InputError(f'{name} is not known: {hint} (a key of your own is named in {ALLOW})')


def with_names_allowed(cfg: Config) -> Config:
    """Return a config that allows its own variables, for reading it without its original files.

    Args:
        cfg: Config that :func:`check_names` has accepted; not changed.
    """
    allowed = cfg.get(ALLOW)
    own = [name for name in cfg if name not in (*MEANT, *_VARIABLES) and not name.startswith('_')]
    if allowed is True or not set(own) - set(allowed or ()):
        return cfg
    return Config(
        {
            **cfg.to_dict(),
            ALLOW: [*(allowed or ()), *(name for name in own if name not in (allowed or ()))],
        }
    )


def with_variables_allowed(cfg: Config) -> Config:
    """Return a config that allows the variables that its files read, before parts are replaced.

    A config with replaced parts is the content of no file, so that nothing tells any more which
    of its names are variables. Names that no file reads are not allowed.

    Args:
        cfg: Config of a file; not changed.
    """
    allowed = cfg.get(ALLOW)
    if allowed is True:
        return cfg
    read = read_names(cfg.filename) - {*MEANT, *_VARIABLES, *(allowed or ())}
    own = [name for name in cfg if name in read]
    if not own:
        return cfg
    content = {**cfg.to_dict(), ALLOW: [*(allowed or ()), *own]}
    return Config(content, cfg_text=cfg.text, filename=cfg.filename)


def value_at(node: Any, key: str) -> Any:
    """Return the setting at a dotted key; None where there is none."""
    for name in key.split('.'):
        node = node.get(name) if isinstance(node, Mapping | Config) else None
    return node


def read_names(path: str | None) -> set[str]:
    """Return the names that a config file and its bases read, such as variables of their own."""
    names: set[str] = set()
    if path is None or not Path(path).is_file():
        return names
    for file in files_of(Path(path)):
        if file.suffix != '.py' or not file.is_file():
            continue
        try:
            tree = ast.parse(file.read_text(encoding='utf-8'))
        except (SyntaxError, UnicodeError):
            # MMEngine replaces its own signs, as in {{$NAME:default}}, before the file is Python.
            names.update(re.findall(r'(?<![\w.])[a-z]\w*(?!\w*\s*=[^=])', file.read_text('utf-8')))
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                names.add(node.id)
            elif isinstance(node, ast.Attribute):
                # As in _base_.norm_cfg.
                names.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.update(re.findall(r'{{\s*_base_\.(\w+)', node.value))
    return names
