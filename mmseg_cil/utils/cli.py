"""The common parts of all tools: parsing of the command line, and the exit status."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import gc
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mmseg_cil.errors import InputError
from mmseg_cil.utils.literals import NotPlainError, read_literal
from mmseg_cil.utils.stopping import Stopped, ended_by_signals, interrupt_of

#: Environment variables in which torchrun, Slurm and MPI tell a process its rank.
_RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
#: Environment variable of a program that a tool starts: the tool gives the advice on going on.
ADVISED = 'MMSEG_CIL_ADVISED'
#: Seconds for which the other processes wait for rank 0 to print the error and end the job.
_PATIENCE = 20.0
#: A dictionary, or a list or tuple that has one.
_HAS_DICT = re.compile(r'\s*(?:[\[(].*)?(?:\bdict\(|\{)', re.DOTALL)
#: Errors of a path that cannot be read or written, which count as wrong input.
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
    """A parser whose usage errors are input errors, printed once by a job of many processes."""

    def error(self, message: str) -> NoReturn:
        """Raise an error, for which :func:`run_tool` ends the process with status 2."""
        raise InputError(f'{message}{self._meant(message)} ({self.prog} --help lists the options)')

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the command line, and refuse empty options."""
        parsed = super().parse_args(args, namespace)
        for action in self._actions:
            value = getattr(parsed, action.dest, None)
            if value == '' or (isinstance(value, list) and '' in value):
                self.error(f'{next(iter(action.option_strings), action.dest)} is empty')
        return parsed

    def _meant(self, message: str) -> str:
        """Return a hint at known options that are like the unknown ones."""
        if not message.startswith('unrecognized arguments'):
            return ''
        given = [word.partition('=')[0] for word in message.split() if word.startswith('-')]
        known = [name for action in self._actions for name in action.option_strings]
        near = [found for name in given for found in difflib.get_close_matches(name, known, 1)]
        return f'; did you mean {", ".join(near)}?' if near else ''


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options key=value ...`` as MMEngine reads them, with errors of one line.

    MMEngine reads no dictionaries; values that have one, such as
    ``model.decode_head.loss_decode=dict(type='DiceLoss')``, are read as plain Python.

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
                key, equals, text = value.partition('=')
                if not equals or not all(part.strip() for part in key.split('.')):
                    parser.error(
                        f'argument {option_string}: {value!r} must be KEY=VALUE, such as '
                        'optim_wrapper.optimizer.lr=0.01'
                    )
                if _HAS_DICT.match(text):
                    read = _plain_value(parser, option_string, value, text)
                    setattr(namespace, self.dest, {**getattr(namespace, self.dest), key: read})
                    continue
                try:
                    super().__call__(parser, namespace, [value], option_string)
                except Exception as error:
                    parser.error(f'argument {option_string}: {value} cannot be read ({error})')

    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        default={},
        metavar='KEY=VALUE',
        help='override settings of the config',
    )


def _plain_value(parser: argparse.ArgumentParser, option: str | None, given: str, text: str) -> Any:
    try:
        return read_literal(text)
    except (SyntaxError, NotPlainError) as error:
        parser.error(
            f'argument {option}: {given} cannot be read ({error}); a value with a dict must be '
            'plain Python, and the shell needs quotes around it: "KEY=dict(type=\'NAME\', a=1)"'
        )


def run_tool(main: Callable[[], int | None], goes_on: str = '') -> NoReturn:
    """Run a tool and end the process with its status.

    The status is 0 for success, 2 for wrong input or wrong usage (the message goes to
    stderr, without a traceback), 130 after Ctrl-C, 143 after SIGTERM or SIGUSR1,
    and 1 for any other error, which is shown with its traceback. A full disk is
    reported in one line: files are replaced whole, so nothing is lost.

    In a job of several processes rank 0 prints what is wrong, and the end of rank 0
    ends the job. A process that still runs some seconds later had an error of its
    own, and prints it.

    Args:
        main: The tool. It returns the exit status; ``None`` is 0.
        goes_on: Part of a sentence that tells how to go on after a signal. If it is given,
            SIGTERM and SIGUSR1 are handled too.
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
    # All messages are printed. A Ctrl-C from here on, while Python exits, ends the process at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Python need not look through all objects for garbage, which takes half a second at its end.
    gc.freeze()
    sys.exit(status or 0)


def _told(error: BaseException, goes_on: str) -> int | None:
    """Print in a line why a tool ends, and return the exit status; None: show the traceback."""
    interrupt = interrupt_of(error)
    if interrupt is not None:
        if _rank() == 0:
            text = str(interrupt) if isinstance(interrupt, Stopped) else 'interrupted'
            advises = goes_on and ADVISED not in os.environ
            print(f'{text}: {goes_on}' if advises else text, file=sys.stderr)
        return interrupt.status if isinstance(interrupt, Stopped) else 130
    if isinstance(error, InputError):
        _wait_for_the_main_process()
        print(f'error: {error}', file=sys.stderr)
        return 2
    if isinstance(error, BrokenPipeError):
        # The reader of the output, such as head, has closed it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return _told_of_files(error) if isinstance(error, OSError) else None


def _told_of_files(error: OSError) -> int | None:
    """Print an error of the file system in a line; return its status, None for other errors."""
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
