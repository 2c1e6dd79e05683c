"""The check that the weights that a walk begins with are those of its network."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import Tensor, nn

from mmseg_cil.engine.preflight.building import part
from mmseg_cil.engine.preflight.pretrained import is_pretrained, pretrained_weights
from mmseg_cil.engine.step_configs import lone_config
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.models.network_change import plain_weights
from mmseg_cil.models.plain import plain_model_config
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.weights_files import read_source, state_of, weights_as_data

#: The option that accepts weights of which only a part fits.
ALLOW = 'allow_partial_weights'
#: Least share of a module's weights that a file must give. Parts for segmentation alone, which no
#: file for classification has, are at most a fifth of DDRNet; a ResNet-50 is 55 % of a ResNet-101.
_LEAST = 0.6


@dataclass
class Taken:
    """The parameters and buffers that a network got from state dicts, by their ids.

    Attributes:
        taken: Parameters and buffers that got a value.
        shapes: For parameters and buffers that did not fit, the shape in the file.
    """

    taken: set[int] = field(default_factory=set)
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)


def check_weights_fit(walk: Walk) -> None:
    """Initialise the network of the first step once, and check which weights it takes.

    All weights of ``load_from`` must fit, except those of the classifiers, whose rows
    belong to classes. A module with ``init_cfg=dict(type='Pretrained', ...)`` must get
    its first layer and most of its weights, and none of another shape: a backbone for
    segmentation may hold some more weights than one for classification.

    Only rank 0 calls this function. Nothing is done where a config names no weights.

    Args:
        walk: Walk of which everything else has been checked.

    Raises:
        InputError: Weights do not fit, and ``allow_partial_weights`` is not set.
    """
    options = pretrained_weights(walk.cfg)
    if not options:
        return
    cfg = lone_config(walk, 0)
    with _quiet(), torch.random.fork_rng(), weights_as_data(alone=True):
        problems, notes = _compare(cfg, options, walk.seen_names(0))
    if problems and not walk.cfg.get(ALLOW, False):
        raise InputError(
            f'{" ".join(problems)} Give the weights of this network, or, where a '
            f'part of them is meant, add --cfg-options {ALLOW}=True'
        )
    for note in [*problems, *notes]:
        print(f'note: {note}')


def _compare(
    cfg: Config, options: Sequence[tuple[str, str]], classes: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return sentences on the weights that do not fit, and notes on others."""
    with part('the network of step 0'):
        network: Any = MODELS.build(cfg.model)
        by_class = _class_keys(cfg.model.to_dict(), network)
    with part('the weights of the network of step 0'), recorded() as taken:
        network.init_weights()
    names = {source: option for option, source in options}
    problems: list[str] = []
    notes: list[str] = []
    for path, module in network.named_modules():
        for source in _sources(module):
            told, refused = _fit_of_module(module, path, by_class, taken)
            if told:
                place = names.get(source, f'model.{path}.init_cfg')
                hint = _hint(read_source(source), dict(module.named_parameters()), path)
                (problems if refused else notes).append(f'{place}: of {source} {told}{hint}.')
    if cfg.get('load_from'):
        with part('load_from'), plain_weights(network):
            problem, note = _fit_of_file(network, read_source(cfg.load_from), by_class, classes)
        problems += (
            [f'load_from: {cfg.load_from} does not fit the network: {problem}.'] if problem else []
        )
        notes += [f'load_from: {note}.'] if note else []
    return problems, notes


def _sources(module: nn.Module) -> Iterator[str]:
    """Yield the files that a module is initialised from as a whole."""
    listed: Any = getattr(module, 'init_cfg', None)
    for init_cfg in listed if isinstance(listed, (list, tuple)) else [listed]:
        if is_pretrained(init_cfg):
            yield init_cfg['checkpoint']


@contextlib.contextmanager
def recorded() -> Iterator[Taken]:
    """Record, within a block, the tensors that networks get from state dicts by any loader."""
    record = Taken()
    load = nn.Module._load_from_state_dict

    def watch_load(
        self: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *rest: Any, **more: Any
    ) -> None:
        load(self, state_dict, prefix, *rest, **more)
        for name, value in [*self._parameters.items(), *self._buffers.items()]:
            given = state_dict.get(f'{prefix}{name}')
            if value is None or not isinstance(given, Tensor):
                continue
            if given.shape == value.shape:
                record.taken.add(id(value))
            else:
                record.shapes[id(value)] = tuple(given.shape)

    nn.Module._load_from_state_dict = watch_load  # type: ignore[method-assign]
    try:
        yield record
    finally:
        nn.Module._load_from_state_dict = load  # type: ignore[method-assign]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence logs and prints on weights within a block, as training repeats them."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _class_keys(model: dict[str, Any], network: nn.Module) -> set[str]:
    """Return the weights whose shape follows from the number of classes: the classifiers'."""
    head = model['decode_head']
    last = head[-1] if isinstance(head, (list, tuple)) else head
    # The first part of K-Net's head has the classes.
    last = last.get('kernel_generate_head', last)
    other = MODELS.build(plain_model_config(model, last['num_classes'] + 1)).state_dict()
    return {
        key
        for key, value in network.state_dict().items()
        if key in other and other[key].shape != value.shape
    }


def _fit_of_module(
    module: nn.Module, path: str, by_class: set[str], record: Taken
) -> tuple[str, bool]:
    """Return which weights a module does not get from its file, and whether that is refused.

    The text is empty where no kernel is missing.
    """
    prefix = f'{path}.' if path else ''
    own = {
        name: value
        for name, value in module.named_parameters()
        if f'{prefix}{name}' not in by_class
    }
    kernels = [name for name, value in own.items() if value.ndim > 1]
    missing = [name for name, value in own.items() if id(value) not in record.taken]
    lacking = [name for name in kernels if name in set(missing)]
    if not lacking:
        # Only norms and biases are missing: those behind a backbone's stages.
        return '', False
    told = (
        f'{len(own) - len(missing)} weights fit {path or "the network"} '
        f'({type(module).__name__}), which has {len(own)}; it lacks '
        f'{_listed(_described(name, own[name], record) for name in lacking)}'
    )
    share = sum(value.numel() for value in own.values() if id(value) in record.taken) / sum(
        value.numel() for value in own.values()
    )
    return told, share < _LEAST or kernels[0] in lacking or any(
        id(own[name]) in record.shapes for name in lacking
    )


def _fit_of_file(
    network: nn.Module, content: Any, by_class: set[str], classes: Sequence[str]
) -> tuple[str, str]:
    """Return why a file for the whole network does not fit, and a note; both may be empty."""
    own: dict[str, Tensor] = dict(network.named_parameters())
    own.update(
        (name, value)
        for name, value in network.named_buffers()
        if value.is_floating_point() and name in network.state_dict()
    )
    if not isinstance(content, dict) or not state_of(content):
        return 'it holds no weights by name', ''
    with recorded() as record:
        _load_checkpoint_to_model(network, content)
    missing = [name for name, value in own.items() if id(value) not in record.taken]
    lacking = [name for name in missing if name not in by_class]
    if lacking:
        told = (
            f'{len(own) - len(missing)} weights fit, and the network has {len(own)}; it lacks '
            f'{_listed(_described(name, own[name], record) for name in lacking)}'
            f'{_hint(content, own, "")}'
        )
        return told, ''
    anew = [name for name in missing if name.endswith('weight')]
    if anew:
        return '', (
            'the classifiers begin anew, for their rows are of other classes: '
            + _listed(_described(name, own[name], record) for name in anew)
        )
    meta = content.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    data = meta.get('dataset_meta')
    theirs = (data.get('classes') if isinstance(data, Mapping) else None) or meta.get('CLASSES')
    if by_class and theirs and list(theirs) != list(classes):
        return '', (
            f'the classifiers are taken over too, though their rows are of '
            f'{_listed(map(str, theirs))}, and those here of {_listed(classes)}'
        )
    return '', ''


def _described(name: str, value: Tensor, record: Taken) -> str:
    found = record.shapes.get(id(value))
    return name if found is None else f'{name} ({found} in the file, {tuple(value.shape)} here)'


def _listed(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    rest = f' and {len(names) - most} more' if len(names) > most else ''
    return f'{", ".join(names[:most])}{rest}'


def _hint(content: Any, own: Mapping[str, Tensor], path: str) -> str:
    """Return where the weights may be, if the file has them under other names."""
    state = state_of(content)
    if not any(isinstance(value, Tensor) for value in state.values()):
        inner = [
            key
            for key, value in state.items()
            if isinstance(value, Mapping)
            and any(isinstance(part, Tensor) for part in value.values())
        ]
        return (
            f"; in the file weights lie under {_listed(map(repr, inner))}, not 'state_dict'"
            if inner
            else '; the file has no weights by name'
        )
    names = [re.sub(r'^module\.', '', name) for name in state]
    if not path and any(f'backbone.{name}' in own for name in names):
        return (
            '; the file is that of a backbone alone: give it as model.backbone.init_cfg='
            "dict(type='Pretrained', checkpoint=...)"
        )
    for prefix in dict.fromkeys(name.partition('.')[0] + '.' for name in names):
        if any(name.removeprefix(prefix) in own for name in names if name.startswith(prefix)):
            return f'; in the file their names begin with {prefix!r}: ' + (
                f'set init_cfg.prefix={prefix!r}' if path else 'save them without'
            )
    return ''
