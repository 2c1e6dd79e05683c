"""Fingerprints of everything that a walk must not change between a stop and its resumption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmseg_cil.datasets.meaning import mask_meaning, reference_of
from mmseg_cil.engine.config.length import global_batch_size
from mmseg_cil.engine.config.method import method_of
from mmseg_cil.engine.config.step_evaluation import evaluators_of, half_precision
from mmseg_cil.engine.data import dataset_configs, drops_partial, first_value
from mmseg_cil.engine.paths import run_seed
from mmseg_cil.engine.walk import Walk
from mmseg_cil.protocols import Protocol
from mmseg_cil.protocols.own_data import OwnData
from mmseg_cil.protocols.policy import TEST_CHOICES

#: Prefix of the fingerprint of a training pipeline of a step's own data set, before its name.
OWN_PIPELINE = 'train pipeline of '
#: The one fingerprint that may differ without anything being trained anew.
EVALUATION = 'evaluation'


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, in hex."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode('utf-8')).hexdigest()


def training_fingerprints(
    cfg: Config, protocol: Protocol, train_images: Sequence[Any], world_size: int
) -> dict[str, str]:
    """Return the fingerprints of everything that changes the weights of a walk.

    Paths, loggers and numbers of workers are not among them, so that a walk
    can be resumed elsewhere. The number of processes is not among them either,
    but the batch over all processes is.

    Args:
        cfg: The user's config.
        protocol: Protocol built from ``cfg.protocol``.
        train_images: Values that tell which training images every step has.
        world_size: Number of processes.
    """
    cfg = _by_name(cfg)
    schedule = {
        key: cfg.get(key)
        for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'step_overrides')
    }
    schedule['batch'] = global_batch_size(cfg, world_size)
    if drops_partial(cfg):  # walks from before this setting stay as they are
        schedule['drop_partial'] = True
    # How the student computes, where it is not the plain way: other roundings, other weights.
    schedule.update({key: cfg.get(key) for key in ('channels_last', 'compile') if cfg.get(key)})
    train, _ = dataset_configs(cfg)
    own = {
        f'{OWN_PIPELINE}{data.name}': fingerprint(_pipeline_of(data, 'train'))
        for data in protocol.own_data
        if 'train' in data.configs
    }
    return {
        'protocol': protocol.training_fingerprint(),
        'method': fingerprint(_that_shapes(method_of(cfg, protocol.name))),
        'model': fingerprint(_network(cfg)),
        'schedule': fingerprint(schedule),
        'custom hooks': fingerprint(cfg.get('custom_hooks') or []),
        'train pipeline': fingerprint(first_value(train, 'pipeline')),
        'training images': fingerprint(train_images),
        'seed': fingerprint(run_seed(cfg)),
        **own,
    }


def evaluation_fingerprint(
    cfg: Config, protocol: Protocol, test_images: Sequence[Any], step: int | None = None
) -> str:
    """Return the fingerprint of everything that changes the scores of steps but not their weights.

    Args:
        cfg: The user's config.
        protocol: Protocol built from ``cfg.protocol``.
        test_images: Values that tell which test images each of the steps has.
        step: The step that is scored; None: all steps.
    """
    last = len(protocol.steps) - 1 if step is None else step
    own = [protocol.own_data[i - 1] for i in protocol.data_of_step(last, 'test') if i]
    cfg = _by_name(cfg)
    policy = protocol.policy.to_dict()
    train, test = dataset_configs(cfg)
    asked = evaluators_of(cfg)
    further = [*asked.iou_metrics, asked.beta] if asked.iou_metrics != ('mIoU',) else []
    return fingerprint(
        {
            'policy': {key: policy[key] for key in TEST_CHOICES},
            'test_cfg': cfg.model.get('test_cfg'),
            'preprocessor': (cfg.model.get('data_preprocessor') or {}).get('test_cfg'),
            'pipeline': first_value(test, 'pipeline'),
            'images': test_images,
            # Included only where the test masks have another meaning than the training masks.
            **({'masks': mask_meaning(test)} if reference_of(train, test) else {}),
            # Included only where it is on: walks from before this setting stay as they are.
            **half_precision(cfg),
            **({'further': further} if further else {}),
            **({'data': [[d.digest(), _pipeline_of(d, 'test')] for d in own]} if own else {}),
        }
    )


def changed(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    former: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """Return the names of the fingerprints that differ and matter to training.

    Args:
        before: The recorded fingerprints.
        now: The expected fingerprints.
        former: Other fingerprints that may have been recorded, by name: of the same in another
            form.
    """
    return [
        key
        for key in sorted({*before, *now} - {EVALUATION})
        if before.get(key) != now.get(key) and before.get(key) not in (former or {}).get(key, ())
    ]


def _pipeline_of(data: OwnData, split: str) -> Any:
    config = data.configs.get(split)
    return None if config is None else _plain(first_value(config, 'pipeline'))


def _that_shapes(method: Mapping[str, Any]) -> dict[str, Any]:
    """Return a method without the setting that does not change what is learnt."""
    result = dict(method)
    form = result.get('teacher_form')
    if isinstance(form, Mapping) and 'shared_trunk' in form:
        # Shared layers have the same outputs, bit by bit.
        result['teacher_form'] = {k: v for k, v in form.items() if k != 'shared_trunk'}
        if not result['teacher_form']:
            del result['teacher_form']
    return result


def _by_name(cfg: Config) -> Config:
    # Imported classes become their names, as in the copy of the config that a walk keeps.
    return Config(cfg.to_dict())


def _network(cfg: Config) -> dict[str, Any]:
    """Return the settings that define the trained network, without parts that only tests read.

    Changes of single steps are included. For weights to begin with, only their
    presence counts: a file that was moved makes no other network.
    """
    model = _without_places(cfg.model)
    model.pop('test_cfg', None)
    if model.get('data_preprocessor'):
        model['data_preprocessor'].pop('test_cfg', None)
    by_step = {
        step: {key: value for key, value in changes.items() if key.split('.')[0] == 'model'}
        for step, changes in (cfg.get('step_overrides') or {}).items()
    }
    return {
        'model': model,
        'by step': {step: changes for step, changes in by_step.items() if changes},
        'load_from': bool(cfg.get('load_from')),
    }


def _without_places(node: Any) -> Any:
    """Copy a config with the names of weight files replaced by a mark."""
    if isinstance(node, Mapping):
        return {
            key: 'given'
            if key in ('checkpoint', 'pretrained') and isinstance(value, str)
            else _without_places(value)
            for key, value in node.items()
        }
    if isinstance(node, (list, tuple)):
        return [_without_places(part) for part in node]
    return node


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return repr(value)


def evaluation_of(walk: Walk, step: int | None = None) -> str:
    """Return the fingerprint of the present evaluation of a step and of its sub-steps.

    Args:
        walk: The walk.
        step: The step; None: all steps together.
    """
    images = walk.prints.test if step is None else walk.prints.test[step : step + 1]
    return evaluation_fingerprint(walk.as_given, walk.protocol, images, step)
