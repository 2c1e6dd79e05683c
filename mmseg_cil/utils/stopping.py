"""Ending of the process on a signal: at once, or in training after saving the state.

Training ends after the current iteration.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

#: The signals of Ctrl-C, of schedulers and ``kill``, and of Slurm before the time is up
#: (``--signal=USR1@60``).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
#: Seconds in which a second signal counts as the first one, which a launcher has passed on as well.
GRACE_S = 2.0
#: Seconds that a process which loads data outlives a signal to all processes of a job.
LOADER_S = 30


class Stopped(KeyboardInterrupt):
    """The exception that ends the process because of a signal.

    Args:
        number: Number of the signal.
        where: Description of the saved state; empty where nothing was saved.
    """

    def __init__(self, number: int, where: str = '') -> None:
        self.number = number
        self.where = where
        super().__init__(str(self))

    @property
    def status(self) -> int:
        """Return the exit status: 130 after Ctrl-C, else 143."""
        return 130 if self.number == signal.SIGINT else 143

    def __str__(self) -> str:
        name = (
            'interrupted'
            if self.number == signal.SIGINT
            else f'ended by {signal.Signals(self.number).name}'
        )
        return f'{name}, {self.where}' if self.where else name


class _State:
    """The state of this process's signal handling.

    Attributes:
        asked: The signal that the process was sent; None before.
        since: Time of that signal, for :data:`GRACE_S`.
        waits: Whether training asks for the signal itself, and ends by itself.
        owner: Id of the process that handles signals; its forks do not handle them.
    """

    asked: int | None = None
    since = 0.0
    waits = False
    owner = 0


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let :data:`SIGNALS` raise :class:`Stopped` in the block, or wait if training asks for them.

    A second signal ends the process at once, whatever the process does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.getsignal(number) for number in SIGNALS}
    _State.asked, _State.waits, _State.owner = None, False, os.getpid()
    for number in SIGNALS:
        # Signals that are ignored, because of nohup say, stay ignored.
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
        # This process was forked to load data; its parent ends it.
        return
    if _State.asked is None:
        _State.asked, _State.since = number, time.monotonic()
        if not _State.waits:
            raise Stopped(number)
    elif time.monotonic() - _State.since > GRACE_S:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def asked_to_stop() -> int | None:
    """Return the signal that this process was sent and has not yet followed; None: no signal."""
    return _State.asked


def wait_for_training(waits: bool) -> None:
    """Set whether training itself asks for signals; otherwise a signal ends the process at once.

    Raises:
        Stopped: A signal came while training asked for signals, and training no longer asks.
    """
    asked = _State.waits and not waits and _State.asked
    _State.waits = waits
    if asked:
        raise Stopped(asked)


def end_waiting() -> None:
    """Let signals end the process at once again, after training that did not finish."""
    _State.waits = False


def follow_signal() -> None:
    """End the process if a signal came, but the code that it interrupted went on.

    Raises:
        Stopped: A signal came, and training does not ask for signals.
    """
    if _State.asked is not None and not _State.waits:
        raise Stopped(_State.asked)


def interrupt_of(error: BaseException) -> KeyboardInterrupt | None:
    """Return the interrupt that caused an error: some libraries turn it into their own error."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, KeyboardInterrupt):
        found = found.__cause__ or found.__context__
    return found


def start_loader(initialise: Callable[[int], object] | None, worker: int) -> None:
    """Initialise a worker process that loads data, and leave the job's signals to its parent.

    Args:
        initialise: Function that is called with the worker's number; None: no function.
        worker: Number of the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, 'sigtimedwait'):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if initialise is not None:
        initialise(worker)


@contextlib.contextmanager
def sigterm_blocked() -> Iterator[None]:
    """Block SIGTERM in this thread, and so in all threads of processes that are forked meanwhile.

    A library may start threads of its own as soon as a process is forked (OpenBLAS does), before
    :func:`start_loader` can block the signal: such a thread would let SIGTERM end the process.
    """
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _end_with_parent() -> None:
    """End this process on its parent's SIGTERM, or :data:`LOADER_S` after another SIGTERM."""
    wait = 1e6
    while (
        told := signal.sigtimedwait({signal.SIGTERM}, wait)
    ) is not None and told.si_pid != os.getppid():
        # The parent was sent the signal too, and may still need images for an iteration.
        wait = LOADER_S
    os._exit(0)
