"""Ending on a signal: at once, or in training after the iteration and with the state saved."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

#: Ctrl-C, what schedulers and ``kill`` send, and what Slurm sends before the time is up
#: (``--signal=USR1@60``).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
#: Seconds in which a second signal is the first one, passed on by a launcher as well.
GRACE_S = 2.0
#: Seconds that a process which loads data outlives a signal to all processes of a job.
LOADER_S = 30


class Stopped(KeyboardInterrupt):
    """The process is to end, because of a signal.

    Args:
        number: Number of the signal.
        where: What was saved, in words; empty where nothing was.
    """

    def __init__(self, number: int, where: str = '') -> None:
        self.number = number
        self.where = where
        super().__init__(str(self))

    @property
    def status(self) -> int:
        """Exit status: 130 after Ctrl-C, else 143."""
        return 130 if self.number == signal.SIGINT else 143

    def __str__(self) -> str:
        name = (
            'interrupted'
            if self.number == signal.SIGINT
            else f'ended by {signal.Signals(self.number).name}'
        )
        return f'{name}, {self.where}' if self.where else name


class _State:
    """What this process was asked to do.

    Attributes:
        asked: The signal that it was sent; None before.
        since: When, for :data:`GRACE_S`.
        waits: The signal is asked for by training, which ends by itself.
        owner: The process that listens; those that it forks do not.
    """

    asked: int | None = None
    since = 0.0
    waits = False
    owner = 0


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let :data:`SIGNALS` raise :class:`Stopped` in the block, or wait where training says so.

    A second signal ends the process at once, whatever it does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.getsignal(number) for number in SIGNALS}
    _State.asked, _State.waits, _State.owner = None, False, os.getpid()
    for number in SIGNALS:
        # What is ignored, by nohup say, is to stay so.
        if former[number] != signal.SIG_IGN:
            signal.signal(number, _handle)
    try:
        yield
    finally:
        for number, handler in former.items():
            if signal.getsignal(number) == _handle:
                signal.signal(number, handler or signal.SIG_DFL)
        _State.asked, _State.waits = None, False


def _handle(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _State.owner:
        # Forked to load data; its parent ends it.
        return
    if _State.asked is None:
        _State.asked, _State.since = number, time.monotonic()
        if not _State.waits:
            raise Stopped(number)
    elif time.monotonic() - _State.since > GRACE_S:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def asked_to_stop() -> int | None:
    """The signal that this process was sent and has not yet followed; None without one."""
    return _State.asked


def wait_for_training(waits: bool) -> None:
    """Say whether training itself asks for a signal, or whether one ends the process at once.

    Raises:
        Stopped: One came while training asked, and it does so no more.
    """
    asked = _State.waits and not waits and _State.asked
    _State.waits = waits
    if asked:
        raise Stopped(asked)


def end_waiting() -> None:
    """Let signals end the process at once again, after training that did not come to its end."""
    _State.waits = False


def follow_signal() -> None:
    """End the process where a signal came, and some part that it interrupted went on.

    Raises:
        Stopped: That is so.
    """
    if _State.asked is not None and not _State.waits:
        raise Stopped(_State.asked)


def interrupt_of(error: BaseException) -> KeyboardInterrupt | None:
    """The interrupt that an error came of: some libraries make an error of their own of it."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, KeyboardInterrupt):
        found = found.__cause__ or found.__context__
    return found


def start_loader(initialise: Callable[[int], object] | None, worker: int) -> None:
    """Begin a process that loads data: the signals of its job are for its parent.

    Args:
        initialise: What is to be called beside.
        worker: Its number, for that.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, 'sigtimedwait'):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if initialise is not None:
        initialise(worker)


def _end_with_parent() -> None:
    """Ends this process when its parent says so, or some time after others have."""
    wait = 1e6
    while (
        told := signal.sigtimedwait({signal.SIGTERM}, wait)
    ) is not None and told.si_pid != os.getppid():
        # Its parent was sent it too, and may need images for an iteration yet.
        wait = LOADER_S
    os._exit(0)
