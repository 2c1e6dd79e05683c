"""Runs a tool in several processes, as torchrun does, and ends with the tool's status.

    python tools/launch.py --nproc_per_node=4 tools/train.py CONFIG --launcher pytorch

The arguments are torchrun's (``python -m torch.distributed.run --help``). Whatever a
process ended with, torchrun ends with 1 and a report on every process; wrong input is
no failure of a process, so here it is told once, by the tool, and the status is 2.
Exit status: 0 done, 2 wrong usage or input, 1 failure.
"""

from __future__ import annotations

import logging
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

WRONG_INPUT = 2


class WithoutWrongInput(logging.Filter):
    """Drops what the agent says of processes that end because of wrong input."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        text = record.getMessage()
        return f'(exitcode: {WRONG_INPUT})' not in text and 'closing signal SIGTERM' not in text


def main() -> int:
    """The launcher."""
    logging.getLogger('torch.distributed.elastic.multiprocessing.api').addFilter(
        WithoutWrongInput())
    try:
        run(parse_args(sys.argv[1:]))
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode != WRONG_INPUT:
            raise
        return WRONG_INPUT
    return 0


if __name__ == '__main__':
    sys.exit(main())
