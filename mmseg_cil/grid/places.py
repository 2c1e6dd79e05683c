"""The places of a grid's files, with fixed names by which a later version goes on with a grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmseg_cil.grid.plan import Cell

#: The file in a grid's folder that lists the grid's cells.
GRID = 'grid.json'


@dataclass(frozen=True)
class Places:
    """The files of a grid.

    ``cells/PROTOCOL/METHOD[@SETTING]/seed_N`` is the work directory of a walk, ``seed_N.py``
    beside it is the config of the walk and ``seed_N.log`` its log; ``step_0/...`` holds the same
    of the base walks.

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
        """Return the work directory of a cell."""
        return self.cells / cell.place

    def config(self, cell: Cell) -> Path:
        """Return the config file of a cell."""
        return self.cells / f'{cell.place}.py'

    def log(self, cell: Cell) -> Path:
        """Return the log of a cell's walk."""
        return self.cells / f'{cell.place}.log'

    def base_dir(self, cell: Cell) -> Path:
        """Return the work directory of the base walk that a cell owns."""
        return self.bases / cell.place

    def base_config(self, cell: Cell) -> Path:
        """Return the config file of the base walk that a cell owns."""
        return self.bases / f'{cell.place}.py'

    def base_log(self, cell: Cell) -> Path:
        """Return the log of the base walk that a cell owns."""
        return self.bases / f'{cell.place}.log'

    def is_there(self, place: str) -> bool:
        """Return whether a cell has begun to be walked."""
        return (self.cells / place).is_dir()
