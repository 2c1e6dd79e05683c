"""A tool in a forked process: all is imported once, and each run is as good as a fresh one."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Seconds that a process has to end after a signal that it may handle.
_PATIENCE = 30.0


@dataclass(frozen=True)
class Outcome:
    """Text that a tool printed, and its exit status.

    Attributes:
        status: Exit status; None where it did not end in time.
        text: Standard output and standard error.
    """

    status: int | None
    text: str


def run_forked(
    argv: list[str],
    folder: Path,
    env: Mapping[str, str],
    timeout: float,
    killed_at: tuple[int, int] | None = None,
    ended_by: int = signal.SIGKILL,
) -> Outcome:
    """Run ``tools/<argv[0]>.py`` in a folder.

    Args:
        argv: Name of the tool, then its arguments.
        folder: The working directory.
        env: Further environment variables.
        timeout: Seconds until the process is ended.
        killed_at: Step and iteration before which the process dies with status 9.
        ended_by: The signal that ends it; SIGKILL follows where it does not help.
    """
    _preload()
    output = folder / f'.output_{argv[0]}'
    child = os.fork()
    if child == 0:
        os.setsid()
        _child(argv, folder, env, output, killed_at)
    status = _wait(child, timeout)
    if status is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, ended_by)
        if ended_by == signal.SIGKILL or _wait(child, _PATIENCE) is None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it has left running
    text = output.read_text(errors='replace') if output.is_file() else ''
    output.unlink(missing_ok=True)
    return Outcome(status, text)


def _wait(child: int, seconds: float) -> int | None:
    """Return the exit status of a process; None where it does not end in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(code)
        time.sleep(0.02)
    return None


def _preload() -> None:
    import mmseg_cil.engine.commands
    import mmseg_cil.visualization.report  # noqa: F401


def _child(
    argv: list[str],
    folder: Path,
    env: Mapping[str, str],
    output: Path,
    killed_at: tuple[int, int] | None,
) -> None:
    """Run the tool; never return."""
    status = 1
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.chdir(folder)
        os.environ.update(env, OMP_NUM_THREADS='1')
        import torch

        torch.set_num_threads(1)
        if killed_at is not None:
            _die_at(*killed_at)
        script = ROOT / 'tools' / f'{argv[0]}.py'
        sys.argv = [str(script), *argv[1:]]
        # A script's own folder is on its path, and so is the user's PYTHONPATH.
        sys.path[:0] = [str(ROOT), str(folder)]
        code = compile(script.read_text(), str(script), 'exec')
        exec(code, {'__name__': '__main__', '__file__': str(script)})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _die_at(step: int, iteration: int) -> None:
    from mmseg_cil.hooks import IterationSeedHook

    before = IterationSeedHook.before_train_iter

    def die(self: IterationSeedHook, runner: object, *args: object, **options: object) -> None:
        if self.step == step and runner.iter == iteration:  # type: ignore[attr-defined]
            os._exit(9)
        before(self, runner, *args, **options)  # type: ignore[arg-type]

    IterationSeedHook.before_train_iter = die  # type: ignore[method-assign]
