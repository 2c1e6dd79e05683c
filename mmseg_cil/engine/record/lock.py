"""The lock of a work directory: a file that names the one process that may write there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mmseg_cil.engine.runner.distributed import decided_by_main
from mmseg_cil.errors import InputError
from mmseg_cil.utils.atomic import TEMPORARY

NAME = 'walk.lock'
#: Seconds after which an unfinished takeover is taken for that of a process that died in it.
_TAKEOVER_S = 60.0
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
#: The PID namespace of a machine itself; the namespaces of containers have other numbers.
_INITIAL_SPACE = 'pid:[4026531836]'

#: Tokens of the locks that this process holds, by folder.
_held: dict[Path, str] = {}


@dataclass(frozen=True)
class Holder:
    """The process that a lock names.

    Attributes:
        host: Name of the process's machine.
        pid: Number of the process on this machine.
        since: Time when the process took the lock, for people.
        machine: Id of the machine's installation; '' where it has none.
        boot: Id of the time since the machine was last started; '' where unknown.
        space: The PID namespace that the process's number belongs to; '' where unknown.
        started: Start of the process, in ticks since the boot; None where unknown.
        token: Token that tells this lock from all others.
    """

    host: str
    pid: int
    since: str
    machine: str
    boot: str
    space: str
    started: int | None
    token: str

    @classmethod
    def this_process(cls) -> Holder:
        """Return the calling process, as of now."""
        pid = os.getpid()
        state = _process_state(pid)
        return cls(
            socket.gethostname(),
            pid,
            time.strftime('%Y-%m-%d %H:%M:%S %z'),
            _text('/etc/machine-id'),
            _text('/proc/sys/kernel/random/boot_id'),
            _pid_space(),
            state[1] if state else None,
            secrets.token_hex(16),
        )

    def is_dead(self) -> bool | None:
        """Return whether the process has ended; None where that cannot be seen from here."""
        here = Holder.this_process()
        if self.host != here.host:
            return None
        if (self.boot, self.space) == (here.boot, here.space):
            return _has_ended(self.pid, self.started)
        # The same machine was started anew since then: no earlier process runs on.
        same = self.machine == here.machine != '' and self.boot != here.boot
        return True if same and self.space == here.space == _INITIAL_SPACE else None

    def __str__(self) -> str:
        return f'host {self.host}, pid {self.pid}, since {self.since}'


@contextlib.contextmanager
def work_dir_lock(
    work_dir: str | Path, take_over: bool = False, otherwise: str = 'give another --work-dir'
) -> Iterator[None]:
    """Hold a work directory within a ``with`` block; every process of a job calls this.

    Rank 0 holds the directory for all processes. The folder is made where it is
    missing, and removed again where nothing was written into it.

    Args:
        work_dir: Work directory of the walk.
        take_over: Whether to take the directory even from a process that may be alive on
            another machine.
        otherwise: Advice for the error where the directory cannot be held.

    Raises:
        InputError: Another process holds the directory, or the folder cannot be written.
    """
    folder = Path(work_dir)
    made: list[bool] = []

    def acquire() -> None:
        with _refusing_unwritable(folder, otherwise):
            made.append(not folder.exists())
            folder.mkdir(parents=True, exist_ok=True)
            _held[folder.resolve()] = _acquire(folder / NAME, take_over, otherwise)

    decided_by_main(acquire)
    try:
        yield
    finally:
        if made:
            _release(folder)
            if made[0]:
                with contextlib.suppress(OSError):
                    folder.rmdir()


def holder_of(work_dir: str | Path) -> Holder | None:
    """Return the process that a work directory's lock names; None where there is no lock."""
    return _read(Path(work_dir) / NAME)


def check_still_held(work_dir: str | Path) -> None:
    """Check that no other process has taken a work directory that this process holds.

    Raises:
        InputError: Another process holds the directory now.
    """
    token = _held.get(Path(work_dir).resolve())
    if token is None:
        return
    holder = _read(Path(work_dir) / NAME)
    if holder is None or holder.token != token:
        raise InputError(
            f'the work directory {work_dir} was taken over by another process'
            f'{f" ({holder})" if holder else ""}: this walk ends here, and writes '
            'nothing more'
        )


def _release(folder: Path) -> None:
    token = _held.pop(folder.resolve(), None)
    holder = _read(folder / NAME)
    if holder is not None and holder.token == token:
        (folder / NAME).unlink(missing_ok=True)


def _acquire(path: Path, take_over: bool, otherwise: str) -> str:
    """Make the lock or take it over, and return its token."""
    own = Holder.this_process()
    # Try twice, since the process that holds the lock may be ending at this moment.
    for _ in range(2):
        if _created(path, own):
            return own.token
        holder = _read(path)
        if path.exists():
            break
    dead = holder.is_dead() if holder else None
    where = f'{path.parent} is in use by another process'
    if holder is not None and dead is False:
        raise InputError(
            f'{where} ({holder}), which is running: wait until it ends, or {otherwise} '
            f'(in a copy of that folder delete {NAME})'
        )
    if not dead and not take_over:
        who = f'{holder}, which cannot be seen from here' if holder else f'{path} is damaged'
        raise InputError(f'{where} ({who}): if it has ended, add --break-lock')
    _replace(path, own, holder)
    print(
        f'note: {path} was left by a process that has {"" if dead else "presumably "}died '
        f'({holder or "unknown"}): it is taken over'
    )
    return own.token


def _created(path: Path, own: Holder) -> bool:
    """Make a lock where there is none, and return whether that succeeded.

    A hard link is made whole or not at all, on network file systems too.
    """
    content = json.dumps(asdict(own))
    handle, name = tempfile.mkstemp(prefix=f'.{path.name}.', suffix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, 'w') as file:
            file.write(content)
        try:
            os.link(name, path)
        except FileExistsError:
            # The answer of a network file system may have been lost, and its repetition fails.
            return os.stat(name).st_nlink == 2
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _created_exclusively(path, content)
        return True
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)


def _created_exclusively(path: Path, content: str) -> bool:
    try:
        with open(path, 'x') as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _replace(path: Path, own: Holder, former: Holder | None) -> None:
    """Put a lock in the place of one that was judged abandoned; only one process can."""
    guard = path.with_name(f'{path.name}.takeover')
    with contextlib.suppress(OSError):
        if time.time() - guard.stat().st_mtime > _TAKEOVER_S:
            guard.unlink()
    if not _created(guard, own):
        raise InputError(
            f'another process is taking {path.parent} over at this moment: give another --work-dir'
        )
    try:
        if _read(path) != former:
            raise InputError(
                f'another process has just taken {path.parent} over: give another --work-dir'
            )
        path.unlink(missing_ok=True)
        if not _created(path, own):
            raise InputError(
                f'another process has just taken {path.parent}: give another --work-dir'
            )
    finally:
        guard.unlink(missing_ok=True)


def _read(path: Path) -> Holder | None:
    """Return the process that a lock names; None where there is no lock, or a damaged one."""
    try:
        holder = Holder(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return holder if isinstance(holder.pid, int) else None


@contextlib.contextmanager
def _refusing_unwritable(folder: Path, otherwise: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f'the work directory {folder} cannot be written ({error.strerror}): {otherwise}'
        ) from error


def _has_ended(pid: int, started: int | None) -> bool:
    if not os.path.exists('/proc/self/stat'):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False
    state = _process_state(pid)
    # A dead process that nobody waits for keeps its number, and numbers are given again.
    return state is None or state[0] in 'ZX' or started not in (None, state[1])


def _process_state(pid: int) -> tuple[str, int] | None:
    """Return state and start of a process; None without it (or if the system does not say)."""
    # The process's name, in brackets, may hold anything.
    fields = _text(f'/proc/{pid}/stat').rpartition(')')[2].split()
    return (fields[0], int(fields[19])) if len(fields) > 19 else None


def _pid_space() -> str:
    try:
        return os.readlink('/proc/self/ns/pid')
    except OSError:
        return ''


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError):
        return ''
