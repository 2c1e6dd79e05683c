"""The small walk that a mutation breaks, and the list of all mutations."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmseg_cil.testing.tiny import make_data, tiny_config

#: Expectations: a refusal before training; a walk that ends well; a refusal, or a walk that
#: tells the user about it; a refusal or a walk, but never a crash.
REFUSED, WORKS, TOLD, ANY = 'refused', 'works', 'told', 'any'

METHODS = (
    'finetune',
    'mib',
    'plop',
    'rcil',
    'vdfd',
    'lwf',
    'lwf_mc',
    'ilt',
    'dkd',
    'lgkd',
    'mib_nest',
    'mib_ucd',
    'reminder',
    'sdr',
)


@dataclass
class World:
    """A fresh folder with data, the config of a tiny walk, and a command line that walks it.

    Attributes:
        folder: The case's own folder; the tool runs in it.
        rng: The case's own random numbers.
        finished: A work directory in which all steps are done.
        begun: A work directory that was killed in the middle of step 1.
    """

    folder: Path
    rng: random.Random
    finished: Path | None = None
    begun: Path | None = None
    cfg: dict[str, Any] = field(init=False)
    argv: list[str] = field(init=False)
    env: dict[str, str] = field(default_factory=dict)
    extra_text: str = ''

    def __post_init__(self) -> None:
        self.cfg = small_config(self.data, self.rng.choice(METHODS))
        self.argv = ['train', 'config.py', '--work-dir', 'w', '--no-report']

    @property
    def data(self) -> Path:
        """Folder of the images, masks and lists."""
        return self.folder / 'data'

    def take_walk(self, which: str) -> Path:
        """Copy a prepared walk ('finished' or 'begun') as ``w``, with its data and its config."""
        source = self.finished if which == 'finished' else self.begun
        assert source is not None
        shutil.copytree(source, self.folder / 'w', symlinks=True)
        self.cfg = small_config(self.data, 'vdfd')
        self.argv += ['--resume']
        return self.folder / 'w'

    def set(self, path: str, value: Any) -> None:
        """Set an entry of the config; '.' separates keys and list indices, '|' where keys hold '.'.

        An entry that is not there is made.
        """
        *parents, last = path.split('.')
        node: Any = self.cfg
        for name in parents:
            node = node[int(name)] if isinstance(node, list) else node.setdefault(name, {})
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value

    def get(self, path: str) -> Any:
        """Return an entry of the config."""
        node: Any = self.cfg
        for name in path.split('.'):
            node = node[int(name)] if isinstance(node, (list, tuple)) else node[name]
        return node

    def pictures(self, folder: str, split: str = '') -> list[Path]:
        """List the images or masks, of one split or both, in order."""
        return sorted((self.data / folder).glob(f'{split}*'))

    def a_picture(self, folder: str, split: str = '') -> Path:
        """Choose one image or mask."""
        return self.rng.choice(self.pictures(folder, split))

    def write_config(self) -> None:
        """Write ``config.py``."""
        lines = [f'{key} = {value!r}' for key, value in self.cfg.items()]
        text = '\n'.join(lines) + '\n' + self.extra_text
        (self.folder / 'config.py').write_text(text, encoding='utf-8')


@dataclass(frozen=True)
class Case:
    """The outcome that a broken input must have.

    Attributes:
        expected: One of the four expectations.
        words: A refusal has at least one of them, in any case of letters, so that it is
            refused for the right reason. None asked for where empty.
        told: Words of which a walk that goes on must print one (for :data:`TOLD`).
        check: Looks at the folder afterwards and says what is wrong there, if anything.
    """

    expected: str
    words: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    check: Callable[[Path], str | None] | None = None


Mutation = Callable[[World], Case]
_ALL: dict[str, Mutation] = {}


def mutation(function: Mutation) -> Mutation:
    """Register a function that breaks a world and says what must come of it."""
    kind = function.__module__.rpartition('.')[2]
    _ALL[f'{kind}.{function.__name__}'] = function
    return function


def mutations() -> dict[str, Mutation]:
    """Return all mutations by name, in the order of their definition."""
    return dict(_ALL)


def small_config(data: Path, method: str) -> dict[str, Any]:
    """Return the config of two steps of two iterations each, as plain containers."""
    content: dict[str, Any] = tiny_config(data, method).to_dict()
    content['protocol']['steps'] = [['background', 'red', 'green'], ['blue', 'grey']]
    content['train_cfg']['max_iters'] = 2
    content['param_scheduler'][0]['end'] = 2
    content['step_overrides'] = {0: {'max_iters': 2}, 'later': {'lr': 0.02, 'max_iters': 2}}
    content.pop('rehearsal', None)
    content['log_level'] = 'INFO'
    return content


def prepare_data(folder: Path) -> None:
    """Write the images and lists that every case begins with."""
    make_data(folder)
