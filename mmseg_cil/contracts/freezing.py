"""What stands still in later steps: a declaration that any method can make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.utils.near import near

_PATTERNS = ('norm_statistics', 'parameters')


@dataclass(frozen=True)
class Freezing:
    """What a method holds still in all steps after the first one that trained.

    A pattern is the name of a module or parameter of the segmentor in training, such as
    'decode_head', 'backbone.layer1' or 'backbone.layer*'; it counts for all that is within. Only
    backbone, neck and heads are meant, whatever the pattern. In the steps where it acts, each
    pattern must find something.

    Attributes:
        norm_statistics: Norms under these names normalise by their running statistics and do not
            update them, as in evaluation. Their scales and shifts still train.
        parameters: Parameters under these names do not train; neither weight decay moves them.
        old_rows: The rows of old classes, in all layers of the heads that have a row a class, stay
            as they are when the step begins.
    """

    norm_statistics: Sequence[str] = ()
    parameters: Sequence[str] = ()
    old_rows: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None) -> Freezing:
        """Read ``method.freezing``.

        Raises:
            InputError: A key is unknown, or a value is no list of names.
        """
        if config is None:
            return cls()
        known = [entry.name for entry in fields(cls)]
        if not isinstance(config, Mapping):
            raise InputError(
                f'method.freezing is {config!r}; it must be a dict with keys of {known}, such as '
                "dict(norm_statistics=['decode_head'])"
            )
        for key in config:
            if key not in known:
                meant = near(str(key), known)
                hint = f'did you mean {meant!r}? It' if meant else 'it'
                raise InputError(f'method.freezing has the unknown key {key!r}: {hint} has {known}')
        for key in _PATTERNS:
            value = config.get(key, ())
            listed = isinstance(value, Sequence) and not isinstance(value, str)
            if not listed or not all(isinstance(pattern, str) and pattern for pattern in value):
                raise InputError(
                    f'method.freezing.{key} is {value!r}; it must be a list of names of modules, '
                    "such as ['decode_head']"
                )
        old_rows = config.get('old_rows', False)
        if not isinstance(old_rows, bool):
            raise InputError(f'method.freezing.old_rows is {old_rows!r}; it must be True or False')
        statistics, parameters = (tuple(config.get(key, ())) for key in _PATTERNS)
        return cls(statistics, parameters, old_rows)
