"""The settings of a ``protocol = dict(...)``, and readers of the lists of classes in them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmseg_cil.errors import InputError
from mmseg_cil.protocols.policy import Policy
from mmseg_cil.protocols.taxonomy import DATASETS, Taxonomy, known_taxonomy, read_void_ids


@dataclass(frozen=True)
class Request:
    """The settings of a ``protocol = dict(...)`` and the classes of the dataset."""

    cfg: Mapping[str, Any]
    name: str
    setting: str
    policy: Policy
    classes: Sequence[str] | None
    reduce_zero_label: bool

    def get(self, key: str, default: Any = None) -> Any:
        """Return a setting, or ``default`` where it is not given."""
        value = self.cfg.get(key)
        return default if value is None else value

    def refuse(self, keys: Sequence[str], why: str) -> None:
        """Refuse settings that this kind of protocol does not have.

        Raises:
            InputError: One of the settings is given.
        """
        given = [key for key in keys if self.cfg.get(key) is not None]
        if given:
            raise InputError(f'protocol {self.name!r}: {given[0]} {why}; take it out.')

    def taxonomy(self, dataset: str, domain: bool = False) -> Taxonomy:
        """Return the classes of the config's dataset.

        Args:
            dataset: The dataset's name.
            domain: Whether the protocol is by domain.

        Raises:
            InputError: The classes are not known, or contradict the settings.
        """
        void_ids = read_void_ids(self.cfg.get('void_ids'), f'protocol {self.name!r}')
        taxonomy = self._taxonomy(dataset, domain)
        return taxonomy.with_void_ids(void_ids) if void_ids else taxonomy

    def _taxonomy(self, dataset: str, domain: bool) -> Taxonomy:
        background = self.get('background', 'auto')
        if dataset in DATASETS:
            if dataset != 'ade20k' and self.reduce_zero_label:
                raise InputError(
                    f'protocol {self.name!r}: masks of {dataset!r} hold their first class as 0, '
                    'but the dataset sets reduce_zero_label=True; set it to False.'
                )
            known = known_taxonomy(dataset, background, domain)
            return known if self.classes is None else known.with_names(self.classes)
        if self.classes is None:
            raise InputError(
                f'protocol {self.name!r}: the classes of the dataset {dataset!r} are not known '
                f'here; known are {", ".join(DATASETS)}. Give the classes of your dataset '
                '(a config has them from its dataset).'
            )
        return Taxonomy.from_classes(
            dataset, self.classes, self.reduce_zero_label, background, domain
        )


def as_list(value: Any, where: str) -> list[Any]:
    """Return a value of a config as a list.

    Raises:
        InputError: The value is no list.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(f'{where} must be a list, not {value!r}.')
    return list(value)


def class_id_of(taxonomy: Taxonomy, value: Any, where: str) -> int:
    """Return the class id of a name or an id.

    Raises:
        InputError: There is no such class.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < len(taxonomy.names):
            return value
        raise InputError(
            f'{where}: there is no class {value}; the ids of {taxonomy.dataset!r} are 0 to '
            f'{len(taxonomy.names) - 1}.'
        )
    text = str(value).strip()
    if text in taxonomy.names:
        return taxonomy.names.index(text)
    if text in taxonomy.left_out:
        raise InputError(
            f'{where}: the class {text!r} is left out, for its id is among void_ids; take the id '
            'out of these, or the class out of the steps.'
        )
    near = difflib.get_close_matches(text, taxonomy.names, 3)
    hint = f'; did you mean {" or ".join(near)}' if near else ''
    listed = ', '.join(taxonomy.names[:30]) + (', ...' if len(taxonomy.names) > 30 else '')
    raise InputError(f'{where}: {taxonomy.dataset!r} has no class {text!r}{hint}. It has {listed}.')


def names_of(taxonomy: Taxonomy, classes: Sequence[int]) -> str:
    """Return the names of class ids for a message."""
    return ', '.join(taxonomy.names[c] for c in classes)
