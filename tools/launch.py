"""Runs a tool in several processes, as torchrun does, and ends with the tool's status.

    python tools/launch.py --nproc_per_node=4 tools/train.py CONFIG --launcher pytorch

The arguments are torchrun's (``python -m torch.distributed.run --help``). Whatever a
process ended with, torchrun ends with 1 and a report on every process; wrong input is
no failure of a process, so here it is told once, by the tool, and the status is 2.
Exit status: 0 done, 2 wrong usage or input, 130 after Ctrl-C, 143 after SIGTERM or
SIGUSR1, 1 failure.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

#: Statuses that a tool has explained: wrong input, Ctrl-C, and SIGTERM or SIGUSR1.
TOLD = (2, 130, 143)


class WithoutWhatIsTold(logging.Filter):
    """Drops what the agent says of processes that have told themselves why they end."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        text = record.getMessage()
        return (
            not any(f'(exitcode: {status})' in text for status in TOLD)
            and 'closing signal SIG' not in text
            and 'death signal' not in text
        )


def main() -> int:
    """Start the processes."""
    for name in ('multiprocessing.api', 'agent.server.api'):
        logging.getLogger(f'torch.distributed.elastic.{name}').addFilter(WithoutWhatIsTold())
    # Slurm's signal before the time is up: the agent passes SIGTERM on, and waits.
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    try:
        run(parse_args(sys.argv[1:]))
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode not in TOLD:
            raise
        return int(failure.exitcode)
    except SignalException as error:
        return 130 if error.sigval == signal.SIGINT else 143
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
