"""The base walks, which train the step 0 that cells begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmengine.config import Config

from mmseg_cil.engine.config.load import load_config
from mmseg_cil.errors import InputError
from mmseg_cil.grid.checks import Checked, look_at
from mmseg_cil.grid.composition import read_text
from mmseg_cil.grid.outcome import has_begun
from mmseg_cil.grid.places import Places
from mmseg_cil.grid.plan import Cell, Setting, Variant
from mmseg_cil.grid.step_zero import differing, step_zero_of

#: The parts that ``--start-from`` compares itself: 'any' step 0 that agrees in them will do.
_COMPARED = ('protocol', 'training images', 'network')


@dataclass(frozen=True)
class Base:
    """A base walk.

    Attributes:
        owner: The cell whose method trains the base walk.
        content: Description of the step 0, from :func:`step_zero_of`.
    """

    owner: Cell
    content: Mapping[str, Any]


def find_bases(
    cells: Sequence[Cell], checked: Checked, places: Places, share: str
) -> dict[Cell, Base]:
    """Find the base walk of each cell: one that exists, or one that is to be trained.

    Args:
        cells: Cells to be walked.
        checked: Results of the checks of these cells.
        places: Places of the grid.
        share: 'same', 'any' or 'none'.

    Returns:
        The base walks by cell. Cells without a base walk train their own step 0 in their own walk:
        protocols of one step, cells that have begun, and all cells where ``share`` is 'none'.
    """
    if share == 'none':
        return {}
    looked = _Looked(checked, places)
    known: dict[tuple[str, int], list[Base]] = {}
    result: dict[Cell, Base] = {}
    for cell in cells:
        walk = checked.walks.get(cell.kind)
        if walk is None or walk.num_steps < 2 or has_begun(places.work_dir(cell)):
            continue
        group = (cell.protocol.name, cell.seed)
        if group not in known:
            known[group] = looked.on_disk(cell)
        content = looked.of_cell(cell)
        base = next(
            (candidate for candidate in known[group] if _fits(content, candidate.content, share)),
            None,
        )
        if base is None:
            base = Base(cell, content)
            known[group].append(base)
        result[cell] = base
    _tell(result)
    return result


def _fits(content: Mapping[str, Any], other: Mapping[str, Any], share: str) -> bool:
    found = differing(content, other)
    return not ([key for key in found if key in _COMPARED] if share == 'any' else found)


class _Looked:
    """Descriptions of steps 0, each made once."""

    def __init__(self, checked: Checked, places: Places) -> None:
        self._checked = checked
        self._places = places
        self._of_kinds: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._of_files: dict[str, Mapping[str, Any] | None] = {}

    def of_cell(self, cell: Cell) -> Mapping[str, Any]:
        """Return the description of a cell's step 0, which is the same for all seeds."""
        if cell.kind not in self._of_kinds:
            self._of_kinds[cell.kind] = step_zero_of(self._checked.walks[cell.kind])
        return self._of_kinds[cell.kind]

    def on_disk(self, cell: Cell) -> list[Base]:
        """Return the base walks that exist for the protocol and seed of a cell."""
        found = []
        folder = self._places.bases / cell.protocol.name
        for path in sorted(folder.glob(f'*/seed_{cell.seed}.py')):
            row = Variant(path.parent.name)
            owner = replace(cell, method=row, setting=Setting())
            seed = self._checked.walks[cell.kind].cfg.randomness.seed
            content = self._of_file(path, seed)
            if content is not None:
                found.append(Base(owner, content))
        return found

    def _of_file(self, path: Any, seed: int) -> Mapping[str, Any] | None:
        content = read_text(path)
        # All base walks are described with one seed, so that only other differences count.
        content['randomness'] = {**(content.get('randomness') or {}), 'seed': seed}
        key = repr(content)
        if key not in self._of_files:
            load_config(path)  # imports what its custom_imports name
            try:
                self._of_files[key] = step_zero_of(look_at(Config(content), self._places))
            except InputError as error:
                print(f'note: {path} is used no more: {error}', flush=True)
                self._of_files[key] = None
        return self._of_files[key]


def _tell(bases: Mapping[Cell, Base]) -> None:
    told: dict[tuple[str, str], list[str]] = {}
    for cell, base in bases.items():
        rows = told.setdefault(base.owner.kind, [])
        if cell.row not in rows:
            rows.append(cell.row)
    first: dict[str, Base] = {}
    for base in bases.values():
        first.setdefault(base.owner.protocol.name, base)
    for (protocol, row), rows in told.items():
        base = next(
            candidate for candidate in bases.values() if candidate.owner.kind == (protocol, row)
        )
        others = differing(base.content, first[protocol].content)
        why = (
            f', which differs from that of {first[protocol].owner.row} in {", ".join(others)}'
            if others
            else ''
        )
        print(f'step 0 of {protocol}: {row} trains it for {", ".join(rows)}{why}', flush=True)
