"""What all tools have in common: how they end."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import NoReturn

from mmseg_cil.errors import InputError


def run_tool(main: Callable[[], int | None]) -> NoReturn:
    """Runs a tool and ends the process with its status.

    Args:
        main: The tool. What it returns is the exit status, ``None`` is 0.

    The status is 0 for success, 2 for wrong input (its message goes to stderr,
    without a traceback; ``argparse`` does the same for wrong usage), 130 after
    Ctrl-C, and 1 for any other error, which is shown with its traceback. A full
    disk is told in one line: files are replaced whole, so nothing is lost.
    """
    try:
        status = main()
    except InputError as error:
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
