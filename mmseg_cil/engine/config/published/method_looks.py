"""Descriptions of the choices of a method in which a config differs from the official code.

Each function describes in a few words what a config has in place of the official choice, and
returns None if there is no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.config import Config

from mmseg_cil.engine.config.method import find_method
from mmseg_cil.engine.config.published.frames import Frame
from mmseg_cil.models.plain import type_name
from mmseg_cil.protocols import is_by_domain

#: Pieces of methods with the thresholds of PLOP's code.
PLOP_FORMS = ('plop_paper', 'lgkd_paper', 'plop_nest_paper', 'plop_ewf_paper', 'reminder_paper')
#: Pieces of methods with the pre-tuning of NeST's code.
NEST_FORMS = ('mib_nest_paper', 'plop_nest_paper')
#: Pieces of methods with the fusion of EWF's code.
EWF_FORMS = ('mib_ewf_paper', 'plop_ewf_paper')


def pieces_named(pieces: Sequence[str]) -> str:
    """Return the option of method pieces, in words."""
    return f'the method pieces {", ".join(f"`{piece}`" for piece in pieces)}'


def thresholds(cfg: Config, frame: Frame) -> str | None:
    """Describe the thresholds of PLOP's pseudo-labels."""
    if frame.method not in PLOP_FORMS or cfg.method.name in PLOP_FORMS:
        return None
    return 'a true median, whole images for the thresholds, full weight without background'


def merge(cfg: Config, frame: Frame) -> str | None:
    """Describe the merge of RCIL's branches."""
    return _of_branches(cfg, frame, 'eps_again', 'a merge without the eps of a second norm')


def draws(cfg: Config, frame: Frame) -> str | None:
    """Describe the draws of RCIL's branches."""
    return _of_branches(cfg, frame, 'draws', 'the same draws on all processes')


def _of_branches(cfg: Config, frame: Frame, key: str, words: str) -> str | None:
    """Return the words if the frame sets a key of RCIL's branches that the config has otherwise."""
    official = frame.changes.get(f'network_change.{key}')
    if official is None:
        return None
    change = find_method(cfg, cfg.protocol.name).network_change or {}
    return None if change.get(key) == official else words


def statistics(cfg: Config, frame: Frame) -> str | None:
    """Describe the norms that RCIL merges."""
    return 'statistics of the merged norms' if frame.method == 'rcil' else None


def channels(cfg: Config, frame: Frame) -> str | None:
    """Describe the choice of AWT's channels."""
    wanted = frame.changes.get('classifier_init.classes')
    if not wanted or is_by_domain(cfg.protocol.name):
        return None
    init = find_method(cfg, cfg.protocol.name).classifier_init
    same = isinstance(init, Mapping) and init.get('classes') == wanted
    return None if same else 'channels for each new class'


def pre_tuning(cfg: Config, frame: Frame) -> str | None:
    """Describe NeST's pre-tuning."""
    if frame.method not in NEST_FORMS or is_by_domain(cfg.protocol.name):
        return None
    same = cfg.method.name in NEST_FORMS
    return None if same else 'frozen statistics, biases of the size of each old one'


def contrast(cfg: Config, frame: Frame) -> str | None:
    """Describe UCD's contrast."""
    if frame.method != 'mib_ucd_paper' or cfg.method.name == frame.method:
        return None
    return 'consistent scores, labels of the nearest pixel, pairs of all processes'


def representations(cfg: Config, frame: Frame) -> str | None:
    """Describe SDR's losses."""
    if frame.method != 'sdr_paper' or cfg.method.name == frame.method:
        return None
    return (
        'features of a class by their own channels, equal weights, no prototype of the background'
    )


def fusion(cfg: Config, frame: Frame) -> str | None:
    """Describe EWF's fusion."""
    if frame.method not in EWF_FORMS or is_by_domain(cfg.protocol.name):
        return None
    hooks = find_method(cfg, cfg.protocol.name).custom_hooks
    same = any(
        hook.get('start') == 'official'
        for hook in hooks
        if type_name(hook.get('type')) == 'EWFHook'
    )
    return None if same else 'fusion that keeps the shift of the background'


def future(cfg: Config, frame: Frame) -> str | None:
    """Describe the prediction of DFT*."""
    return 'classes of later steps are never predicted' if frame.method == 'dft_star' else None


def processes(cfg: Config, frame: Frame) -> str | None:
    """Describe PLOP's thresholds on several processes."""
    return 'thresholds shared by all processes' if frame.method in PLOP_FORMS else None
