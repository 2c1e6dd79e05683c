"""The config of a method: the parts that it may have, each documented once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from mmseg_cil.contracts.freezing import Freezing
from mmseg_cil.contracts.teacher_form import TeacherForm
from mmseg_cil.errors import InputError
from mmseg_cil.utils.near import near

#: Config of a part, by the name of its type.
Part = Mapping[str, Any]


#: Roles of the parts that the segmentor receives, for :meth:`MethodConfig.without`.
TEACHING, WEIGHTS, CHANGE, BEGINNING = (
    {'role': role} for role in ('teaching', 'weights', 'change', 'beginning')
)
#: These keys stand in a step's config only where a method gives them, so that configs of walks
#: that are older than the keys do not change.
PREDICTION = {'role': 'prediction', 'where_given': True}
FREEZING = {'role': 'freezing', 'where_given': True}
FORM = {'role': 'teacher form', 'where_given': True}


@dataclass(frozen=True)
class MethodConfig:
    """The parts of a method, under the keys that a config has for them in ``method``.

    A new part is a new field here. A part with a role is an argument of the segmentor too,
    goes into the config of each step, and is left out where a network is trained or
    exported without it.

    Attributes:
        name: Name of the method.
        loss_decode: Config of the loss, or a list of configs, in place of the heads' own losses.
            None leaves the heads' losses.
        teacher_draw: Number of the earlier steps' checkpoints that are run for a batch; all
            by default.
        distillers: Configs of :class:`~mmseg_cil.contracts.Distiller`; built only where there
            is a teacher.
        regularisers: Configs of :class:`~mmseg_cil.contracts.Regulariser`; built only where
            there is a previous step.
        self_supervision: Config of a :class:`~mmseg_cil.contracts.SelfSupervision`, or None.
        classifier_init: Initialisation of the rows of new classes, a name in
            :data:`~mmseg_cil.registry.CLASSIFIER_INITS`, or ``dict(type=name, ...)``. It is not
            used at a step without new classes.
        network_change: Config of a :class:`~mmseg_cil.contracts.NetworkChange`, which changes
            the network while the step trains.
        freezing: Statistics and parameters that do not change in steps after the first trained
            one, as ``dict(norm_statistics=[...], parameters=[...], old_rows=True)``, modules that
            compute as in evaluation, and factors of learning rates; see
            :class:`~mmseg_cil.contracts.Freezing`.
        teacher_form: A cheaper form in which the teachers run, as ``dict(fold_norms=True,
            channels_last=True, dtype='bfloat16')``; see
            :class:`~mmseg_cil.contracts.TeacherForm`.
        prediction: Config of a :class:`~mmseg_cil.contracts.PredictionRule`. None predicts the
            class of the greatest output.
        further_map: Config of a :class:`~mmseg_cil.contracts.FurtherMap`: a second map of the
            training images.
        custom_hooks: Configs of hooks, such as :class:`~mmseg_cil.contracts.StepHook`.
        memory: Settings of the exemplars, see :class:`~mmseg_cil.memory.memory.MemorySettings`.
        teachers: 'all' for the checkpoints of all earlier steps beside the last one's.
        sub_steps: Configs of :class:`~mmseg_cil.engine.sub_steps.base.SubStep`.
    """

    name: str = ''
    loss_decode: Part | Sequence[Part] | None = None
    teacher_draw: int | None = field(default=None, metadata=TEACHING)
    distillers: Sequence[Part] = field(default=(), metadata=TEACHING)
    regularisers: Sequence[Part] = field(default=(), metadata=WEIGHTS)
    self_supervision: Part | None = field(default=None, metadata=CHANGE)
    classifier_init: str | Part = field(default='random', metadata=BEGINNING)
    network_change: Part | None = field(default=None, metadata=CHANGE)
    freezing: Part | None = field(default=None, metadata=FREEZING)
    teacher_form: Part | None = field(default=None, metadata=FORM)
    prediction: Part | None = field(default=None, metadata=PREDICTION)
    further_map: Part | None = None
    custom_hooks: Sequence[Part] = ()
    memory: Part | None = None
    teachers: str | None = None
    sub_steps: Sequence[Part] = ()

    @classmethod
    def from_config(cls, method: Mapping[str, Any], other_keys: Sequence[str] = ()) -> MethodConfig:
        """Read the value of ``method`` in a config.

        Args:
            method: The parts by their keys, and the name.
            other_keys: Further keys that ``method`` may have; they are passed over.

        Raises:
            InputError: A key is unknown, a value is no list where a list is needed, ``teachers``
                is neither None nor 'all', or :meth:`Freezing.from_config` or
                :meth:`TeacherForm.from_config` raises it.
        """
        known = [part.name for part in fields(cls)]
        known += other_keys
        unknown = sorted(set(method) - set(known))
        if unknown:
            meant = near(str(unknown[0]), known)
            hint = f'did you mean {meant!r}? A' if meant else 'a'
            raise InputError(
                f'method {method["name"]!r} has the unknown keys {unknown}: {hint} method '
                f'consists of {known}'
            )
        given = {key: value for key, value in method.items() if key not in other_keys}
        for part in fields(cls):
            if part.default == () and not isinstance(given.get(part.name) or [], (list, tuple)):
                raise InputError(
                    f'method {method["name"]!r}: {part.name} must be a list of configs, '
                    f'not {given[part.name]!r}'
                )
            if part.default == ():
                given[part.name] = given.get(part.name) or ()
        Freezing.from_config(given.get('freezing'))
        TeacherForm.from_config(given.get('teacher_form'))
        if given.get('teachers') not in (None, 'all'):
            raise InputError(
                f"method {method['name']!r}: teachers must be 'all' (the snapshots of all "
                f'earlier steps) or None, not {given["teachers"]!r}'
            )
        return cls(**given)

    @classmethod
    def split(cls, arguments: Mapping[str, Any]) -> tuple[MethodConfig, dict[str, Any]]:
        """Split the arguments of a segmentor into those of the method and those of the network."""
        keys = cls.network_keys()
        parts = {key: value for key, value in arguments.items() if key in keys}
        rest = {key: value for key, value in arguments.items() if key not in keys}
        return cls(**parts), rest

    @classmethod
    def network_keys(cls) -> tuple[str, ...]:
        """Return the keys of the parts that the segmentor receives."""
        return tuple(part.name for part in _parts())

    @classmethod
    def without(cls, *roles: str) -> dict[str, Any]:
        """Return the defaults of the parts of some roles, which take the parts out of a config.

        Args:
            roles: Roles of parts, such as 'change' for the parts that change the network while a
                step trains.
        """
        return {
            part.name: _as_in_config(part.default)
            for part in _parts()
            if part.metadata['role'] in roles
        }

    def for_network(self) -> dict[str, Any]:
        """Return the parts that the segmentor receives, in the form of its config."""
        return {
            part.name: _as_in_config(value)
            for part in _parts()
            if (value := getattr(self, part.name)) != part.default
            or not part.metadata.get('where_given')
        }

    @property
    def reads_all_teachers(self) -> bool:
        """Return whether the method learns from the checkpoints of all earlier steps."""
        return self.teachers == 'all'


def _parts() -> list[Field[Any]]:
    return [part for part in fields(MethodConfig) if 'role' in part.metadata]


def _as_in_config(value: object) -> object:
    return list(value) if isinstance(value, (list, tuple)) else value
