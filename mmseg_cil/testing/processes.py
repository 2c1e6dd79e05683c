"""Python programs in their own processes, forked from a server that has made the imports.

Importing PyTorch, MMEngine and MMSegmentation takes seconds of processor time. A server process
imports them once; every program is a fork of the server, with its own arguments, environment and
output. Otherwise the program is like one that a shell has started: it may be killed, join a process
group, and start other processes. Forks begin with the sys.path of the process that asks for them.
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

#: Modules that the server imports.
PRELOADED = ['mmseg_cil.testing.preload']
#: Environment variables of every program of tests.
ENVIRONMENT = {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '-1'}
#: Seconds that the processes of a job have when one of them has failed.
_PATIENCE = 30.0


class Program:
    """A program in a process of its own, which starts at once.

    Args:
        function: Function that the process calls; picklable, so at the top level of a module.
        arguments: Arguments of the function, picklable.
        log: File for the standard output, which :attr:`output` reads.
        environment: Variables in addition to those of this process.
        errors: File for the standard error; None: the file ``log``.
        folder: Current folder of the process; None: that of this process.

    Attributes:
        log: The file of the standard output.
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
        """Return the id of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def sentinel(self) -> int:
        """Return the descriptor that becomes readable when the process ends."""
        return self._process.sentinel

    @property
    def output(self) -> str:
        """Return the output written so far."""
        return self.log.read_text(errors='replace')

    def poll(self) -> int | None:
        """Return the exit status, or minus the signal that killed the process; None: it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status.

        Raises:
            TimeoutError: The process has not ended within ``timeout`` seconds.
        """
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise TimeoutError(f'not ended within {timeout} s: {self.output[-3000:]}')
        return status

    def send_signal(self, number: int) -> None:
        """Send the process a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process as the death of its machine would, and wait for its end."""
        self.send_signal(signal.SIGKILL)
        self._process.join()


def start_script(
    arguments: Sequence[str | Path],
    log: str | Path,
    environment: Mapping[str, str] | None = None,
    **options: str | Path | None,
) -> Program:
    """Start the script or code that ``python ARGUMENTS`` would start.

    Args:
        arguments: A path, or ``-c`` and code, followed by the arguments of the script.
        log: As in :class:`Program`.
        environment: Variables in addition to those of this process.
        **options: ``errors`` and ``folder``, as in :class:`Program`.
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
    """Return exit status and output of ``python ARGUMENTS`` as ranks 0 and 1.

    Both ranks are killed when the time is over.
    """
    with ended(start_two(arguments, log)) as programs:
        statuses = wait_for_all(programs, timeout)
    return [(status, program.output) for status, program in zip(statuses, programs, strict=True)]


def in_two_processes(
    function: Callable[..., object], *arguments: object, log: str | Path, timeout: float = 240
) -> None:
    """Call a function in both processes of a group; both calls must return.

    Args:
        function: A function at the top level of its module.
        arguments: Arguments of the function, picklable.
        log: As in :func:`start_two`.
        timeout: Seconds after which both processes are killed.

    Raises:
        AssertionError: A process has failed; the message ends with its output.
    """
    in_processes(function, *arguments, log=log, timeout=timeout, count=2)


def in_processes(
    function: Callable[..., object],
    *arguments: object,
    log: str | Path,
    count: int,
    timeout: float = 240,
) -> None:
    """Call a function in all processes of a group, as :func:`in_two_processes` does in two."""
    started = [
        Program(_in_group, [function, *arguments], f'{log}.{rank}', variables)
        for rank, variables in enumerate(_ranks(count))
    ]
    with ended(started) as programs:
        statuses = wait_for_all(programs, timeout)
    for rank, (status, program) in enumerate(zip(statuses, programs, strict=True)):
        # A process that was killed because another one failed tells less about the error.
        if status not in (0, -signal.SIGKILL):
            raise AssertionError(f'rank {rank}, exit status {status}: {program.output[-3000:]}')
    assert not any(statuses), f'exit statuses {statuses}: {programs[0].output[-3000:]}'


def wait_for_all(programs: Sequence[Program], timeout: float) -> list[int]:
    """Wait for the end of programs of one job, and return their exit statuses.

    When a program has failed, the others have half a minute left, and are killed after it.

    Raises:
        TimeoutError: The programs have not ended within ``timeout`` seconds.
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
    """Kill, after the block, the programs that still run."""
    try:
        yield programs
    finally:
        for program in programs:
            program.kill()


def free_port() -> int:
    """Return a port on which no process listens."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return int(probe.getsockname()[1])


def _ranks(count: int) -> list[dict[str, str]]:
    """Return the environment variables that torchrun sets for each process of a job."""
    common = dict(WORLD_SIZE=str(count), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    return [dict(common, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(count)]


def _start_server() -> None:
    """Start the server, with the import path of this process."""
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
