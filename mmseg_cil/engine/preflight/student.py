"""Checks of how the student computes: its compiler, and activations that are computed again."""

from __future__ import annotations

import itertools
from typing import Any

from mmengine.config import Config

from mmseg_cil.errors import InputError
from mmseg_cil.models.compile_options import compile_options
from mmseg_cil.models.heads import classifier_of
from mmseg_cil.models.recomputation import KEY, asks_for_recomputation, named_modules_of


def check_student(cfg: Config, network: Any) -> None:
    """Refuse forms of the student that a step cannot train in.

    Args:
        cfg: Config of the step.
        network: Network of a step with the same kind of modules.

    Raises:
        InputError: ``compile`` or ``activation_checkpointing`` cannot be used, or both are asked
            for.
    """
    names = cfg.get(KEY)
    if names is not None and not isinstance(names, (str, list, tuple)):
        raise InputError(f"{KEY} is {names!r}; it must be a list of names, as ['backbone']")
    if getattr(network, 'self_supervision', None) is not None:
        named = set(itertools.chain(*(part.modules() for part in named_modules_of(network, names))))
        for where, head in network.heads.items():
            if classifier_of(head) in named:
                raise InputError(
                    f'{KEY} names a module with the classifier of {where}, which has more outputs '
                    'during the forward pass alone (method.self_supervision): name other modules, '
                    "such as ['backbone']"
                )
    recomputed = bool(named_modules_of(network, names)) or asks_for_recomputation(network)
    if compile_options(cfg.get('compile')) and recomputed:
        raise InputError(
            f'the config asks for compile and for {KEY} (or with_cp=True in model): compiled code '
            'decides by itself what it computes again, so leave one of them out'
        )
