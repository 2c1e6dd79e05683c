"""Python programs in processes of their own, whose imports were made once for all.

To import PyTorch, MMEngine and MMSegmentation takes seconds of a processor. A server process
imports them once; every program is a fork of it, with its own arguments, environment and output,
and is otherwise like one that a shell has started: it may be killed, join a process group, and
start others. Forks begin with the sys.path of the process that asks for them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection, forkserver
from pathlib import Path

#: What the server imports.
PRELOADED = ['mmseg_cil.testing.preload']
#: What every program of tests has in its environment.
ENVIRONMENT = {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '-1'}
#: Seconds that the processes of a job have when one of them has failed.
_PATIENCE = 30.0


class Program:
    """A program in a process of its own, begun at once.

    Args:
        function: Called in it; picklable, so of a module's top level.
        arguments: Arguments of the function, picklable.
        log: File that its output goes to, in which it is found by :attr:`output`.
        environment: Variables in addition to those of this process.
        errors: File that its errors go to, where that is another one.
        folder: Its current folder, where that is another one.

    Attributes:
        log: The file of its output.
    """

    def __init__(
        self,
        function: Callable[..., object],
        arguments: Sequence[object],
        log: str | Path,
        environment: Mapping[str, str] | None = None,
        errors: str | Path | None = None,
        folder: str | Path | None = None,
    ) -> None:
        _start_server()
        self.log = Path(log)
        files = [os.path.abspath(log), os.path.abspath(errors or log)]
        for file in files:
            Path(file).touch()
        variables = {**os.environ, **ENVIRONMENT, **(environment or {})}
        self._process = multiprocessing.get_context('forkserver').Process(
            target=_begin, args=(function, tuple(arguments), files, variables, folder)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def sentinel(self) -> int:
        """Descriptor that becomes readable when it ends."""
        return self._process.sentinel

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors='replace')

    def poll(self) -> int | None:
        """Return the exit status, the negative number of a signal that killed it; None: runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status.

        Raises:
            TimeoutError: It has not ended within so many seconds.
        """
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise TimeoutError(f'not ended within {timeout} s: {self.output[-3000:]}')
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as the death of its machine would, and wait for that."""
        self.send_signal(signal.SIGKILL)
        self._process.join()


def start_script(
    arguments: Sequence[str | Path],
    log: str | Path,
    environment: Mapping[str, str] | None = None,
    **options: str | Path | None,
) -> Program:
    """Start what ``python ARGUMENTS`` would start.

    Args:
        arguments: A path, or ``-c`` and code, and what the script is given.
        log: As in :class:`Program`, like the others.
        environment: Variables in addition to those of this process.
        **options: ``errors`` and ``folder``.
    """
    return Program(
        _run_script, [[str(argument) for argument in arguments]], log, environment, **options
    )


def start_two(
    arguments: Sequence[str | Path], log: str | Path, **environment: str
) -> list[Program]:
    """Start ``python ARGUMENTS`` as ranks 0 and 1; output goes to ``LOG.0`` and ``LOG.1``."""
    return [
        start_script(arguments, f'{log}.{rank}', {**variables, **environment})
        for rank, variables in enumerate(_ranks(2))
    ]


def run_two(
    arguments: Sequence[str | Path], log: str | Path, timeout: float = 240
) -> list[tuple[int, str]]:
    """Exit status and output of both ranks; both are killed when the time is over."""
    with ended(start_two(arguments, log)) as programs:
        statuses = wait_for_all(programs, timeout)
    return [(status, program.output) for status, program in zip(statuses, programs, strict=True)]


def in_two_processes(
    function: Callable[..., object], *arguments: object, log: str | Path, timeout: float = 240
) -> None:
    """Call a function in both processes of a group; both must return from it.

    Args:
        function: At the top level of its module.
        arguments: Arguments of the function, picklable.
        log: As in :func:`start_two`.
        timeout: Seconds after which both are killed.

    Raises:
        AssertionError: One of them has failed; the message ends with what it wrote.
    """
    in_processes(function, *arguments, log=log, timeout=timeout, count=2)


def in_processes(
    function: Callable[..., object],
    *arguments: object,
    log: str | Path,
    count: int,
    timeout: float = 240,
) -> None:
    """Call a function in all processes of a group; as :func:`in_two_processes`."""
    started = [
        Program(_in_group, [function, *arguments], f'{log}.{rank}', variables)
        for rank, variables in enumerate(_ranks(count))
    ]
    with ended(started) as programs:
        statuses = wait_for_all(programs, timeout)
    for rank, (status, program) in enumerate(zip(statuses, programs, strict=True)):
        # Of one that was killed because another had failed there is less to learn.
        if status not in (0, -signal.SIGKILL):
            raise AssertionError(f'rank {rank}, exit status {status}: {program.output[-3000:]}')
    assert not any(statuses), f'exit statuses {statuses}: {programs[0].output[-3000:]}'


def wait_for_all(programs: Sequence[Program], timeout: float) -> list[int]:
    """Wait for the end of programs of one job, and return their exit statuses.

    When one has failed, the others have half a minute left, and are killed after it.

    Raises:
        TimeoutError: They have not ended within so many seconds.
    """
    deadline = time.monotonic() + timeout
    while running := [started for started in programs if started.poll() is None]:
        left = deadline - time.monotonic()
        if any(program.poll() for program in programs):
            left = min(left, _PATIENCE)
            for program in running:
                with contextlib.suppress(TimeoutError):
                    program.wait(max(0.0, left))
                program.kill()
        elif left <= 0:
            running[0].wait(0)
        else:
            connection.wait([started.sentinel for started in running], left)
    return [program.wait() for program in programs]


@contextlib.contextmanager
def ended(programs: Sequence[Program]) -> Iterator[Sequence[Program]]:
    """Kill whichever of the programs still runs after the block."""
    try:
        yield programs
    finally:
        for program in programs:
            program.kill()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return int(probe.getsockname()[1])


def _ranks(count: int) -> list[dict[str, str]]:
    """Return what torchrun tells the processes of a job."""
    common = dict(WORLD_SIZE=str(count), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    return [dict(common, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(count)]


def _start_server() -> None:
    """Start the server, which imports what this process would."""
    multiprocessing.get_context('forkserver').set_forkserver_preload(PRELOADED)
    package = str(Path(__file__).resolve().parents[2])
    wanted = {**ENVIRONMENT, 'PYTHONPATH': os.pathsep.join([package, *_python_path()])}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _python_path() -> list[str]:
    return [folder for folder in os.environ.get('PYTHONPATH', '').split(os.pathsep) if folder]


def _begin(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    files: Sequence[str],
    variables: Mapping[str, str],
    folder: str | Path | None,
) -> None:
    """Call the function of a program, in its process."""
    for descriptor, file in zip((1, 2), files, strict=True):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(variables)
    if folder is not None:
        os.chdir(folder)
    import torch

    torch.set_num_threads(1)
    function(*arguments)


def _run_script(arguments: Sequence[str]) -> None:
    if arguments[0] == '-c':
        sys.argv = ['-c', *arguments[2:]]
        module = types.ModuleType('__main__')
        sys.modules['__main__'] = module
        exec(compile(arguments[1], '<string>', 'exec'), module.__dict__)
    else:
        sys.argv = list(arguments)
        sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
        runpy.run_path(arguments[0], run_name='__main__')


def _in_group(function: Callable[..., object], *arguments: object) -> None:
    from mmseg_cil.engine.runner.distributed import process_group

    with process_group('pytorch', 'gloo'):
        function(*arguments)
