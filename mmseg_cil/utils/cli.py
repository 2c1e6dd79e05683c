"""What all tools have in common: how they end."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from mmseg_cil.errors import InputError

#: Where torchrun, Slurm and MPI tell a process its rank.
_RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
#: Seconds for which the other processes leave it to the main one to say what is wrong.
_PATIENCE = 10.0


class ToolParser(argparse.ArgumentParser):
    """A command line whose wrong usage is wrong input, told once by a job of many processes."""

    def error(self, message: str) -> NoReturn:
        """Raises what :func:`run_tool` ends with status 2."""
        raise InputError(f'{message}\n{self.format_usage().rstrip()}')


def run_tool(main: Callable[[], int | None]) -> NoReturn:
    """Runs a tool and ends the process with its status.

    Args:
        main: The tool. What it returns is the exit status, ``None`` is 0.

    The status is 0 for success, 2 for wrong input (its message goes to stderr,
    without a traceback; ``argparse`` does the same for wrong usage), 130 after
    Ctrl-C, and 1 for any other error, which is shown with its traceback. A full
    disk is told in one line: files are replaced whole, so nothing is lost.

    Of several processes the main one tells what is wrong; its end is the end of
    the job. One that is still there some seconds later had a trouble of its
    own, and tells it.
    """
    try:
        status = main()
    except InputError as error:
        if _rank() > 0:
            time.sleep(_PATIENCE)
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f'error: no space left for {error.filename or "a file"}: the former files are whole; '
              'make room and go on with --resume', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)
    sys.exit(status or 0)


def _rank() -> int:
    found = [os.environ[name] for name in _RANKS if os.environ.get(name, '').isdigit()]
    return int(found[0]) if found else 0
