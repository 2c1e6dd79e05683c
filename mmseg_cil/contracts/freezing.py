"""A method's declaration of modules that later steps freeze, or train at another rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.utils.near import near

_PATTERNS = ('norm_statistics', 'evaluation', 'parameters', 'excepted')


@dataclass(frozen=True)
class Freezing:
    """The statistics and parameters that steps after the first trained one freeze or train slower.

    A pattern is the name of a module or parameter of the segmentor in training, such as
    'decode_head', 'backbone.layer1' or 'backbone.layer*'; it also matches everything within that
    module. Only names in backbone, neck and heads are matched, whatever the pattern; '*' is all of
    them. In the steps in which a pattern acts, it must match something.

    Attributes:
        norm_statistics: Patterns of norms that normalise by their running statistics and do not
            update them, as in evaluation. The scales and shifts of these norms still train.
        evaluation: Patterns of modules that compute as in evaluation: besides their norms as above,
            their dropout (of activations, attention or paths) is off.
        parameters: Patterns of parameters that do not train; weight decay does not move them
            either.
        excepted: Patterns of parameters that train although ``parameters`` matches them, such as
            '*.conv_seg*', the classifiers.
        old_rows: Whether the rows of old classes keep their values of the beginning of the step,
            in all layers of the heads that have a row a class.
        rates: Factors of the learning rate by patterns of parameters, as ``{'backbone': 0.1}``, on
            top of those of ``optim_wrapper.paramwise_cfg``. The longest pattern that matches a
            parameter holds for it.
    """

    norm_statistics: Sequence[str] = ()
    evaluation: Sequence[str] = ()
    parameters: Sequence[str] = ()
    excepted: Sequence[str] = ()
    old_rows: bool = False
    rates: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None) -> Freezing:
        """Read ``method.freezing``.

        Raises:
            InputError: A key is unknown, or a value is of another form.
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
        if config.get('excepted') and not config.get('parameters'):
            raise InputError(
                f'method.freezing.excepted is {config["excepted"]!r}, and no parameter is frozen: '
                "name parameters too, such as parameters=['*']"
            )
        patterns = {key: tuple(config.get(key, ())) for key in _PATTERNS}
        return cls(**patterns, old_rows=old_rows, rates=_read_rates(config.get('rates') or {}))


def _read_rates(rates: Any) -> dict[str, float]:
    if not isinstance(rates, Mapping):
        raise InputError(
            f'method.freezing.rates is {rates!r}; it must be a dict of factors by names of '
            "modules, such as {'backbone': 0.1}"
        )
    for pattern, factor in rates.items():
        number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if not number or not 0 < factor < math.inf:
            raise InputError(
                f'method.freezing.rates[{pattern!r}] is {factor!r}; it must be a number above 0, '
                'by which the learning rate is multiplied; method.freezing.parameters names what '
                'is not to train at all'
            )
    return {str(pattern): float(factor) for pattern, factor in rates.items()}
