"""The declaration, for any method, of a cheaper form in which its teachers run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import NoneType
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.utils.near import near

#: Values of :attr:`TeacherForm.dtype`.
DTYPES = (None, 'run', 'bfloat16', 'float16')
#: Types of the values of each key but ``dtype``, which is one of :data:`DTYPES`.
_KINDS: dict[str, tuple[type, ...]] = {
    'fold_norms': (bool,),
    'channels_last': (bool, NoneType),
    'compile': (bool, Mapping),
    'shared_trunk': (bool,),
}


@dataclass(frozen=True)
class TeacherForm:
    """The form in which the teachers of a step run, where it is not the plain one.

    A teacher does not learn, so that it may be computed in other ways than the student. By
    default all is as in the student; each key changes the records by no more than is said here,
    relative to the greatest value of each map (measured over networks of all heads; tests hold
    these bounds).

    Attributes:
        fold_norms: Whether batch norms become part of the convolutions before them: 1e-4.
        channels_last: Whether the teachers compute with the channels last in memory: 1e-4. None:
            as the student does, by the key ``channels_last`` of the walk.
        dtype: Number format of the teachers' convolutions and matrix products. None: as in the
            student. 'run': the same, but in mixed precision the weights are converted once and
            not at every iteration, which changes nothing. 'bfloat16', 'float16': this format,
            whatever the student's: 5e-2; records are given in the student's format.
        compile: Whether ``torch.compile`` makes other code of the teachers' backbone and neck: 1e-4
            (in mixed precision 5e-2). A mapping has the arguments of ``torch.compile``, such as
            ``dict(mode='max-autotune-no-cudagraphs')`` or ``dict(backend='eager')``.
        shared_trunk: Whether teachers take the outputs of frozen first layers from the student,
            where both are the same (see :class:`~mmseg_cil.models.shared_trunk.SharedTrunk`),
            which changes nothing. The keys above go before it: a layer in another form is not
            shared.
    """

    fold_norms: bool = False
    channels_last: bool | None = None
    dtype: str | None = None
    compile: bool | Mapping[str, Any] = False
    shared_trunk: bool = True

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None) -> TeacherForm:
        """Read ``method.teacher_form``.

        Raises:
            InputError: A key is unknown, or has a value of another kind.
        """
        if config is None:
            return cls()
        known = [entry.name for entry in fields(cls)]
        if not isinstance(config, Mapping):
            raise InputError(
                f'method.teacher_form is {config!r}; it must be a dict with keys of {known}, such '
                'as dict(fold_norms=True)'
            )
        for key, value in config.items():
            if key not in known:
                meant = near(str(key), known)
                hint = f'did you mean {meant!r}? It' if meant else 'it'
                raise InputError(
                    f'method.teacher_form has the unknown key {key!r}: {hint} has {known}'
                )
            if key in _KINDS and not isinstance(value, _KINDS[key]):
                raise InputError(
                    f'method.teacher_form.{key} is {value!r}; it must be True or False'
                    f'{", or a dict of arguments of torch.compile" if key == "compile" else ""}'
                )
        dtype = config.get('dtype')
        if dtype not in DTYPES:
            raise InputError(
                f'method.teacher_form.dtype is {dtype!r}; it must be one of {list(DTYPES)}'
            )
        return cls(**config)

    def as_student(self, channels_last: bool) -> TeacherForm:
        """Return the form with the student's order in memory, where it has none of its own.

        Args:
            channels_last: Whether the student computes with the channels last in memory.
        """
        return replace(self, channels_last=channels_last) if self.channels_last is None else self
