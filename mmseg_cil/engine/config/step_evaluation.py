"""The evaluation of one step: the walk's metric, and others that a config's evaluators name."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config
from mmseg.evaluation import CityscapesMetric, DepthMetric, IoUMetric

from mmseg_cil.errors import InputError
from mmseg_cil.evaluation.further_scores import FURTHER
from mmseg_cil.protocols import Protocol
from mmseg_cil.registry import METRICS

#: Metrics of MMSegmentation whose files or targets are not those of a step.
_OF_OTHER_LABELS = (CityscapesMetric, DepthMetric)
#: The scores that ``iou_metrics`` may name.
KNOWN = ('mIoU', *FURTHER)


@dataclass
class Evaluators:
    """The scores that a config's evaluators ask for.

    Attributes:
        iou_metrics: Names of scores, as for ``IoUMetric``.
        beta: Beta of the F-score, as for ``IoUMetric``.
        others: Configs of metrics that run beside the walk's own.
        notes: One sentence for each setting of the config that is not followed.
    """

    iou_metrics: tuple[str, ...] = ('mIoU',)
    beta: float = 1.0
    others: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def half_precision(cfg: Config) -> dict[str, bool]:
    """Return ``dict(fp16=True)`` where the config tests in mixed precision (``test_cfg.fp16``)."""
    return {'fp16': True} if (cfg.get('test_cfg') or {}).get('fp16') else {}


def evaluators_of(cfg: Config) -> Evaluators:
    """Return the scores that ``test_evaluator`` asks for, or else those of ``val_evaluator``.

    Args:
        cfg: The user's config, or a step's with the user's evaluators.

    Raises:
        InputError: An evaluator is no metric, or ``iou_metrics`` or ``beta`` cannot be used.
    """
    name = 'test_evaluator' if cfg.get('test_evaluator') else 'val_evaluator'
    given = cfg.get(name) or []
    if isinstance(given, Mapping) and 'metrics' in given and 'type' not in given:
        given = given['metrics']
    result = Evaluators()
    for metric in given if isinstance(given, (list, tuple)) else [given]:
        if not isinstance(metric, Mapping) or 'type' not in metric:
            raise InputError(
                f'{name} is {metric!r:.200}; it must be the config of a metric, such '
                "as dict(type='IoUMetric', iou_metrics=['mIoU']), or a list of them"
            )
        _take(metric, name, result)
    return result


def _take(metric: Mapping[str, Any], name: str, result: Evaluators) -> None:
    kind = metric['type']
    kind = METRICS.get(kind) if isinstance(kind, str) else kind
    label = getattr(kind, '__name__', str(metric['type']))
    if kind is IoUMetric:
        _check_names(metric, name)
        result.iou_metrics = tuple(dict.fromkeys((*result.iou_metrics, *_asked(metric, name))))
        result.beta = _beta(metric.get('beta', 1), name)
        result.notes += _unused(metric, name)
    elif label == 'IncrementalIoUMetric':
        return
    elif isinstance(kind, type) and issubclass(kind, _OF_OTHER_LABELS):
        result.notes.append(
            f'{name}: {label} is left out, for it scores other labels than those of a step'
        )
    else:
        own = copy.deepcopy(dict(metric))
        if 'prefix' not in own and _takes_prefix(kind):
            # MMEngine would refuse two metrics of one name, but only after the test.
            own['prefix'] = label
        result.others.append(own)


def _check_names(metric: Mapping[str, Any], name: str) -> None:
    # IoUMetric itself accepts an argument of any name and ignores it.
    known = {*inspect.signature(IoUMetric).parameters, 'type', 'keep_results'}
    for key in set(metric) - known:
        near = difflib.get_close_matches(key, sorted(known), 1)
        hint = f'; did you mean {near[0]}?' if near else ''
        raise InputError(f'{name}: IoUMetric has no argument {key!r}{hint}')


def _asked(metric: Mapping[str, Any], name: str) -> Sequence[str]:
    asked = metric.get('iou_metrics', ['mIoU'])
    asked = [asked] if isinstance(asked, str) else asked
    if not isinstance(asked, (list, tuple)) or not set(asked) <= set(KNOWN):
        raise InputError(f'{name}: iou_metrics is {asked!r}; it must list some of {list(KNOWN)}')
    return asked


def _beta(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise InputError(f'{name}: beta is {value!r}; it must be a number above 0')
    return float(value)


def _unused(metric: Mapping[str, Any], name: str) -> list[str]:
    notes = []
    if metric.get('ignore_index', 255) != 255:
        notes.append(
            f'{name}: ignore_index={metric["ignore_index"]} is not followed: which pixels '
            'a step is not scored on is said by the policy of the protocol '
            "(background_test='ignore', void_test)"
        )
    if metric.get('output_dir') or metric.get('format_only'):
        notes.append(
            f"{name}: a walk writes no predictions as files; MMSegmentation's "
            'tools/test.py does, with --out, from config.py and checkpoint.pth of a step'
        )
    if metric.get('nan_to_num') is not None:
        notes.append(f'{name}: nan_to_num is not followed: undefined scores are null')
    return notes


def _takes_prefix(kind: Any) -> bool:
    if kind is None:
        return False
    parameters = inspect.signature(kind).parameters
    return 'prefix' in parameters or any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
    )


def data_set_names(protocol: Protocol) -> list[str]:
    """Return the names of a walk's data sets in scores: the config's own, then those of steps."""
    return [protocol.taxonomy.dataset, *(data.name for data in protocol.own_data)]


def set_evaluation(
    cfg: Config, protocol: Protocol, step: int, introduced: Sequence[Sequence[str]]
) -> None:
    """Give a step's config the walk's metric and loops, in place.

    Args:
        cfg: Config of the step, with the user's evaluators.
        protocol: Protocol of the walk.
        step: The step.
        introduced: Names of the classes (or domains) that each step so far brought.

    Raises:
        InputError: See :func:`evaluators_of`.
    """
    asked = evaluators_of(cfg)
    metric: dict[str, Any] = dict(
        type='IncrementalIoUMetric',
        class_steps=list(protocol.class_steps(step)),
        step=step,
        has_background=protocol.taxonomy.has_background,
        num_domains=step + 1 if protocol.kind == 'domain' else 1,
        old=protocol.policy.old,
        background_in_means=protocol.policy.background_in_means,
        introduced=introduced,
    )
    if protocol.own_data:
        metric.update(data_sets=data_set_names(protocol))
    if asked.iou_metrics != ('mIoU',):
        metric.update(iou_metrics=list(asked.iou_metrics), beta=asked.beta)
    # Only mixed precision, which changes the scores, is kept from the user's loops.
    cfg.test_cfg = dict(type='TestLoop', **half_precision(cfg))
    cfg.val_cfg = dict(type='ValLoop', **half_precision(cfg))
    # The walk's own metric comes first: its scores are the scores of the step.
    cfg.test_evaluator = [metric, *asked.others] if asked.others else metric
    cfg.val_evaluator = copy.deepcopy(cfg.test_evaluator)
