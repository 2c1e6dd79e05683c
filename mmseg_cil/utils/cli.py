"""What all tools have in common: how they are asked, and how they end."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mmseg_cil.errors import InputError
from mmseg_cil.utils.stopping import Stopped, ended_by_signals, interrupt_of

#: Where torchrun, Slurm and MPI tell a process its rank.
_RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
#: Seconds for which the other processes leave it to the main one to say what is wrong.
_PATIENCE = 20.0
#: A place that cannot be read or written is wrong input.
_PLACES = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOENT,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


class ToolParser(argparse.ArgumentParser):
    """A command line whose wrong usage is wrong input, told once by a job of many processes."""

    def error(self, message: str) -> NoReturn:
        """Raises what :func:`run_tool` ends with status 2."""
        raise InputError(f'{message}{self._meant(message)} ({self.prog} --help lists the options)')

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reads the command line; no option may be empty."""
        parsed = super().parse_args(args, namespace)
        for action in self._actions:
            value = getattr(parsed, action.dest, None)
            if value == '' or (isinstance(value, list) and '' in value):
                self.error(f'{next(iter(action.option_strings), action.dest)} is empty')
        return parsed

    def _meant(self, message: str) -> str:
        """Options like those that there are not."""
        if not message.startswith('unrecognized arguments'):
            return ''
        given = [word.partition('=')[0] for word in message.split() if word.startswith('-')]
        known = [name for action in self._actions for name in action.option_strings]
        near = [found for name in given for found in difflib.get_close_matches(name, known, 1)]
        return f'; did you mean {", ".join(near)}?' if near else ''


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--cfg-options key=value ...`` as MMEngine reads them, with errors of one line.

    Args:
        parser: Parser of a tool.
    """
    from mmengine.config import DictAction

    class Options(DictAction):
        """Settings by their dotted names."""

        def __call__(
            self,
            parser: Any,
            namespace: Any,
            values: Sequence[str],
            option_string: str | None = None,
        ) -> None:
            for value in values:
                key, equals, _ = value.partition('=')
                if not equals or not all(part.strip() for part in key.split('.')):
                    parser.error(
                        f'argument {option_string}: {value!r} must be KEY=VALUE, such as '
                        'optim_wrapper.optimizer.lr=0.01'
                    )
            try:
                super().__call__(parser, namespace, values, option_string)
            except Exception as error:
                parser.error(
                    f'argument {option_string}: {" ".join(values)} cannot be read ({error})'
                )

    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        default={},
        metavar='KEY=VALUE',
        help='override settings of the config',
    )


def run_tool(main: Callable[[], int | None], goes_on: str = '') -> NoReturn:
    """Runs a tool and ends the process with its status.

    Args:
        main: The tool. What it returns is the exit status, ``None`` is 0.
        goes_on: How what is ended by a signal goes on, a part of a sentence. With it
            SIGTERM and SIGUSR1 are waited for too.

    The status is 0 for success, 2 for wrong input (its message goes to stderr,
    without a traceback; wrong usage too), 130 after Ctrl-C, 143 after SIGTERM or SIGUSR1,
    and 1 for any other error, which is shown with its traceback. A full
    disk is told in one line: files are replaced whole, so nothing is lost.

    Of several processes the main one tells what is wrong; its end is the end of
    the job. One that is still there some seconds later had a trouble of its
    own, and tells it.
    """
    status: int | None
    try:
        with ended_by_signals() if goes_on else contextlib.nullcontext():
            status = main()
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        status = _told(error, goes_on)
        if status is None:
            raise
    # All is said: what comes from here on, while Python ends, ends it at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status or 0)


def _told(error: BaseException, goes_on: str) -> int | None:
    """Tells in a line why a tool ends; the exit status, None where a traceback is to tell it."""
    interrupt = interrupt_of(error)
    if interrupt is not None:
        if _rank() == 0:
            text = str(interrupt) if isinstance(interrupt, Stopped) else 'interrupted'
            print(f'{text}: {goes_on}' if goes_on else text, file=sys.stderr)
        return interrupt.status if isinstance(interrupt, Stopped) else 130
    if isinstance(error, InputError):
        _wait_for_the_main_process()
        print(f'error: {error}', file=sys.stderr)
        return 2
    if isinstance(error, BrokenPipeError):
        # Whoever read the output, such as head, has seen enough of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return _told_of_files(error) if isinstance(error, OSError) else None


def _told_of_files(error: OSError) -> int | None:
    """Tells an error of the file system in a line; None where it is of another kind."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        print(
            f'error: no space left for {error.filename or "a file"}: the former files are whole; '
            'make room and go on with --resume',
            file=sys.stderr,
        )
        return 1
    if error.errno in _PLACES and error.filename:
        _wait_for_the_main_process()
        print(f'error: {error.filename} cannot be used: {error.strerror}', file=sys.stderr)
        return 2
    return None


def _wait_for_the_main_process() -> None:
    if _rank() > 0:
        time.sleep(_PATIENCE)


def _rank() -> int:
    found = [os.environ[name] for name in _RANKS if os.environ.get(name, '').isdigit()]
    return int(found[0]) if found else 0
