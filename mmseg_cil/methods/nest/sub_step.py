"""The sub-step that pre-tunes the rows of new classes before a step (NeST)."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.runner import Runner
from torch import Tensor

from mmseg_cil.contracts import network_of
from mmseg_cil.engine.config.length import global_batch_size
from mmseg_cil.engine.config.method import find_method
from mmseg_cil.engine.config.step_overrides import apply_overrides
from mmseg_cil.engine.runner.distributed import decided_by_main
from mmseg_cil.engine.runner.ema import keep_averaged_weights
from mmseg_cil.engine.step_configs import sub_step_config
from mmseg_cil.engine.sub_steps.base import SubStep, SubStepInputs
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.methods.nest.classifier import classifying_heads, layer_name
from mmseg_cil.models.freezing import norms_with_statistics
from mmseg_cil.models.heads import classifier_of
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.registry import SUB_STEPS
from mmseg_cil.utils.atomic import atomic_write
from mmseg_cil.utils.values import check_choice, check_number

ROWS, PREVIOUS = 'rows.pth', 'previous.pth'
STATISTICS = ('frozen', 'moving')
_PARTS = ('backbone', 'neck', 'decode_head', 'auxiliary_head')


@SUB_STEPS.register_module()
class PreTuneClassifier(SubStep):
    """Pre-tunes the rows of new classes on a step's images, with everything else frozen (NeST).

    1. A pass over the images with the last step's network gives, for each new class, the importance
       of each row and channel of the old classes
       (:class:`~mmseg_cil.methods.nest.selection.ChannelSelectionHook`).
    2. New rows are sums of old rows, weighted by importance and shares; these, the biases of the
       new classes and a scale of the background's row are trained alone, with the unbiased
       cross-entropy (:class:`~mmseg_cil.methods.nest.classifier.PreTunedClassifier`).
    3. The rows are scaled (:func:`~mmseg_cil.methods.nest.transfer.finished_rows`), and the step
       begins with them (:class:`~mmseg_cil.methods.nest.rows.PreTunedRows`), whatever its method.

    Data, optimizer and the form of the schedule are the step's; no part of the method takes part.
    The sub-step acts at steps that bring classes after a step that trained, so never in a walk by
    domain. Auxiliary heads are pre-tuned alike (the official network has none).

    Source: Xie et al., ECCV 2024; zhengyuan-xie/ECCV24_NeST ``run.py``, ``train.py``,
    ``segmentation_module.py`` and its scripts.

    Args:
        epochs: Length in passes over the step's images, at most as long as the step itself (our
            choice). Defaults to 5, as in the official scripts of VOC; those of ADE20K have 15.
        max_iters: Length in iterations, in place of ``epochs``.
        lr_factor: Learning rate of the pre-tuning over that of the step. Defaults to 1, as in the
            scripts of VOC; those of ADE20K have 500.
        loss: Loss of the heads.
        norm_statistics: 'frozen' (default): norms use their running statistics and keep them.
            'moving': norms work as in training, as in the official code, where ``eval()`` is
            commented out: the step then begins with statistics that have moved, though no weight
            has.
        bias: See :class:`~mmseg_cil.methods.nest.classifier.ClassifierPreTuning`.
        bias_scale: See :func:`~mmseg_cil.methods.nest.transfer.finished_rows`.
        grid: Side of the grid of the pass, as in the official code.
        max_images: The most images of the pass. None: all, as in the official code. Defaults to
            2000, our choice.
        name: Name of folder and record. Defaults to 'pre_tuning'.

    Raises:
        InputError: An option is out of range.
    """

    name = 'pre_tuning'
    when = 'before'

    def __init__(
        self,
        epochs: int = 5,
        max_iters: int | None = None,
        lr_factor: float = 1.0,
        loss: Mapping[str, Any] | None = None,
        norm_statistics: str = 'frozen',
        bias: str = 'background',
        bias_scale: str = 'each',
        grid: int = 128,
        max_images: int | None = 2000,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        check_number(self, 'epochs', epochs, least=1, whole=True)
        if max_iters is not None:
            check_number(self, 'max_iters', max_iters, least=1, whole=True)
        check_number(self, 'lr_factor', lr_factor, above=True)
        check_choice(self, 'norm_statistics', norm_statistics, STATISTICS)
        self.epochs, self.max_iters, self.lr_factor = epochs, max_iters, lr_factor
        self.loss = dict(loss or dict(type='UnbiasedCrossEntropyLoss'))
        self.norm_statistics = norm_statistics
        self._change = dict(type='ClassifierPreTuning', bias=bias, bias_scale=bias_scale)
        self._hook = dict(type='ChannelSelectionHook', grid=grid, max_images=max_images)

    def applies(self, walk: Walk, step: int) -> bool:
        """Return whether the step brings classes, after a step that trained."""
        brings = walk.protocol.kind == 'class' and bool(walk.protocol.steps[step].new)
        return brings and super().applies(walk, step)

    def iterations(self, walk: Walk, step: int) -> int:
        """Return ``max_iters``, or ``epochs`` in iterations, at most those of the step."""
        if self.max_iters is not None:
            return self.max_iters
        batch = global_batch_size(walk.cfg, get_world_size())
        epoch = max(1, walk.train_images[step] // batch)
        return min(self.epochs * epoch, walk.iterations[step])

    def check(self, walk: Walk) -> None:
        """Refuse classes without a background, whose row the pre-tuning scales."""
        if not walk.protocol.taxonomy.has_background:
            raise InputError(
                f'sub-step {self.name}: the classes of {walk.protocol.name} have no background, '
                'among whose pixels new classes were before: use the method without this sub-step, '
                'such as mib or plop'
            )

    def derive_config(self, walk: Walk, step: int, inputs: SubStepInputs) -> Config:
        """See :meth:`SubStep.derive_config`."""
        cfg = sub_step_config(replace(walk, cfg=self._own_method(walk)), step, inputs)
        changes: dict[str, Any] = {'max_iters': self.iterations(walk, step)}
        rate = (cfg.optim_wrapper.get('optimizer') or {}).get('lr')
        if rate is not None:
            changes['lr'] = rate * self.lr_factor
        apply_overrides(cfg, changes, images=1, global_batch=1)
        return cfg

    def _own_method(self, walk: Walk) -> Config:
        """Return the user's config with the pre-tuning in the place of the method."""
        cfg = copy.deepcopy(walk.cfg)
        method = find_method(walk.cfg, walk.protocol.name)
        frozen = [part for part in _PARTS if walk.cfg.model.get(part)]
        held = Config(dict(held=method.freezing or {})).held.get('norm_statistics', [])
        cfg.method = dict(
            name=method.name,
            loss_decode=self.loss,
            network_change=self._change,
            freezing=dict(norm_statistics=frozen if self.norm_statistics == 'frozen' else held),
            custom_hooks=[self._hook],
            memory=method.memory,
        )
        cfg.step_overrides = {
            step: {key: value for key, value in changes.items() if key.split('.')[0] != 'method'}
            for step, changes in (walk.cfg.get('step_overrides') or {}).items()
        }
        return cfg

    def finish(self, runner: Runner, folder: Path) -> Sequence[str]:
        """Write the rows, and the last step's network where its statistics have moved."""
        keep_averaged_weights(runner)
        model: Any = network_of(runner)
        model.make_plain()
        layers = {}
        for name, head in classifying_heads(model).items():
            classifier = classifier_of(head)
            rows = dict(weight=classifier.weight.flatten(1))
            if classifier.bias is not None:
                rows['bias'] = classifier.bias
            layers[layer_name(name, head)] = {
                key: value.detach().cpu().clone() for key, value in rows.items()
            }
        contents: dict[str, Any] = {ROWS: {'layers': layers}}
        if self.norm_statistics == 'moving':
            state = {**model.previous_state(), **statistics_of(model)}
            contents[PREVIOUS] = {'meta': {'sub_step': self.name}, 'state_dict': state}
        decided_by_main(lambda: _write(contents, folder))
        return list(contents)

    def hand_on(self, cfg: Config, walk: Walk, step: int, folder: Path) -> None:
        """Let the step begin with the rows, and with the statistics where they have moved."""
        model = cfg.model
        model['classifier_init'] = dict(
            type='pre_tuned',
            rows=str(folder / ROWS),
            otherwise=model.get('classifier_init') or 'random',
        )
        if self.norm_statistics == 'moving' and model.get('previous'):
            model['previous'] = {**model['previous'], 'checkpoint': str(folder / PREVIOUS)}


def statistics_of(model: Any) -> dict[str, Tensor]:
    """Return the running statistics of a segmentor's norms, on the CPU, by name."""
    names = [f'{name}.' for name, _ in norms_with_statistics(model)]
    return {
        key: value.detach().cpu().clone()
        for key, value in plain_state_dict(dict(model.named_buffers())).items()
        if any(key.startswith(name) for name in names)
    }


def _write(contents: Mapping[str, Any], folder: Path) -> None:
    for name, content in contents.items():
        atomic_write(folder / name, functools.partial(torch.save, content))
