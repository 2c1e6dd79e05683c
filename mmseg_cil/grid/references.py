"""The references for a grid's methods: joint training, and a network that learns nothing more.

Without references a table cannot say whether a method is good: where later classes are few, the
network of step 0, left alone, can be ahead of all methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from mmengine.config import Config

from mmseg_cil.errors import InputError
from mmseg_cil.evaluation.step_scores import part_origins
from mmseg_cil.grid.plan import Variant
from mmseg_cil.grid.rows import PARTS, Row
from mmseg_cil.protocols.families import NAME

JOINT, NOTHING = 'joint', 'nothing_learnt'
NAMES = (JOINT, NOTHING)


def references_of(asked: Any) -> list[Variant]:
    """Return the references that a grid asks for, as methods of their own.

    Args:
        asked: True for all references; a list of :data:`NAMES`; or a dict of options by name.

    Raises:
        InputError: The value has another form.
    """
    if asked in (None, False):
        return []
    given = NAMES if asked is True else asked
    if isinstance(given, str) or not isinstance(given, (list, tuple, Mapping)):
        raise InputError(
            f'grid.references is {asked!r}; use True, a list of {", ".join(NAMES)}, or a dict of '
            'options by these'
        )
    unknown = [name for name in given if name not in NAMES]
    if unknown:
        raise InputError(f'grid.references names {unknown[0]!r}; there are {", ".join(NAMES)}')
    options = given if isinstance(given, Mapping) else {}
    return [
        Variant(name, None, dict(options.get(name) or {}), reference=True)
        for name in NAMES
        if name in given
    ]


def make_reference(cfg: Config, name: str) -> None:
    """Turn the config of a walk into that of a reference, in place.

    Args:
        cfg: Config with the protocol that the methods walk.
        name: :data:`JOINT` trains once, as long as step 0, on all classes or domains.
            :data:`NOTHING` trains no step but the first, and predicts no class that comes later.
    """
    if name == JOINT:
        cfg.method = dict(name=JOINT)
        cfg.protocol = joint_protocol(cfg.protocol)
        cfg.step_overrides = _first_alone(cfg.get('step_overrides') or {})
        return
    cfg.method = dict(name=NOTHING, classifier_init='unpredicted')
    cfg.step_overrides = {
        **_first_alone(cfg.get('step_overrides') or {}),
        'later': dict(max_iters=0),
    }


def _first_alone(overrides: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in overrides.items() if str(key) == '0'}


def joint_protocol(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Return a protocol of one step with all classes or domains of a protocol.

    Args:
        protocol: The ``protocol`` of a config.

    Raises:
        InputError: Neither the protocol's name nor its lists say which classes or domains it has.
    """
    content = dict(protocol)
    for key in ('steps', 'domain_steps'):
        if content.get(key):
            content[key] = [[name for step in content[key] for name in step]]
    if content.get('domains') and not content.get('domain_steps'):
        content['domain_steps'] = [[domain['name'] for domain in content['domains']]]
    named = NAME.fullmatch(str(content.get('name')))
    listed = content.get('steps') or content.get('domains')
    if listed:
        content['name'] = f'{content["name"]}_all_at_once'
    elif named:
        content['name'] = f'{named["family"]}_joint'
        content.pop('counting', None)
    else:
        raise InputError(
            f'there is no joint protocol for {content.get("name")!r}: list its steps, or leave '
            f'{JOINT} out of the references'
        )
    return content


def joint_row(row: Row, metrics: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> Row:
    """Return the scores of joint training as those of the last step of a walk.

    After joint training all classes are seen, so the test images are the same. In a walk by class,
    the means of old, new, base and later classes are the means of the IoUs of these classes. In a
    walk by domain, one confusion matrix does not tell these means, and they stay undefined.

    Args:
        row: Row of the one step of joint training.
        metrics: Content of the ``metrics.json`` of joint training.
        steps: Steps of the walk's protocol, as a journal has them: ``new`` names of each.
    """
    last = len(steps) - 1
    entry = metrics['steps'][-1]
    scores = dict.fromkeys(PARTS, None) | {
        'all': row.scores['all'], 'background': row.scores['background']
    }  # fmt: skip
    if metrics.get('kind') == 'class' and last > 0:
        settings = entry.get('settings') or {}
        step_of = {name: k for k, step in enumerate(steps) for name in step['new']}
        names = [name for name in step_of if name in entry['IoU']]
        if not settings.get('background_in_means', True):
            names = [name for name in names if name != settings.get('background')]
        parts = part_origins(list(range(last + 1)), last, settings.get('old', 'previous'))
        for part, wanted in parts.items():
            values = [entry['IoU'][name] for name in names if step_of[name] in wanted]
            known = [100 * value for value in values if value is not None]
            scores[part] = fmean(known) if known and part != 'all' else scores.get(part)
    return Row(row.protocol, row.method, row.setting, row.seed, last, scores)
