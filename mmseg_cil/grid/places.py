"""Where a grid keeps what. The names are fixed: a later version goes on with a grid by them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmseg_cil.grid.plan import Cell

#: What a grid's folder says of its cells.
GRID = 'grid.json'


@dataclass(frozen=True)
class Places:
    """The files of a grid.

    ``cells/PROTOCOL/METHOD[@SETTING]/seed_N`` is the work directory of a walk, ``seed_N.py``
    beside it is its config and ``seed_N.log`` what it has said; ``step_0/...`` the same of
    the base walks.

    Attributes:
        folder: Folder of the grid.
    """

    folder: Path

    @property
    def cells(self) -> Path:
        """The folder of all cells."""
        return self.folder / 'cells'

    @property
    def bases(self) -> Path:
        """The folder of the base walks."""
        return self.folder / 'step_0'

    def work_dir(self, cell: Cell) -> Path:
        """The work directory of a cell."""
        return self.cells / cell.place

    def config(self, cell: Cell) -> Path:
        """The config of a cell."""
        return self.cells / f'{cell.place}.py'

    def log(self, cell: Cell) -> Path:
        """What a cell's walk has said."""
        return self.cells / f'{cell.place}.log'

    def base_dir(self, cell: Cell) -> Path:
        """The work directory of the base walk that a cell owns."""
        return self.bases / cell.place

    def base_config(self, cell: Cell) -> Path:
        """The config of the base walk that a cell owns."""
        return self.bases / f'{cell.place}.py'

    def base_log(self, cell: Cell) -> Path:
        """What the base walk that a cell owns has said."""
        return self.bases / f'{cell.place}.log'

    def is_there(self, place: str) -> bool:
        """Whether a cell has begun to be walked."""
        return (self.cells / place).is_dir()
