"""Suppression of the remarks that MMEngine and MMSegmentation repeat at every step."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
import warnings
from types import ModuleType

_REMARK = 'Could not import OneDL'

#: Beginnings of log records that every step would print again, and that do not concern the step.
_REPEATED = (
    # Environment, config and hooks are hundreds of lines, which stay in the step's log file.
    '-----', 'Config:', 'Hooks will be executed', 'Distributed training is not used', 'Exp name:',
    'paramwise_options',
    # This line is printed once at the beginning of a walk; every step's log file begins with it.
    'as published: ',
    # MMEngine itself calls functions that it has deprecated.
    '"FileClient" will be deprecated', '"HardDiskBackend" is the alias',
)  # fmt: skip

#: Warnings about defaults of MMSegmentation, one for each head that is built.
_DEFAULTS = (
    'Default ``avg_non_ignore`` is False',
    # Step 1 of voc_1-1 has a head of two classes, which grows later.
    'For binary segmentation, we suggest', 'threshold is not defined for binary',
    # This setting stands in every schedule of MMSegmentation.
    'The draw is False, it means that the hook for visualization',
)  # fmt: skip


def import_quietly(name: str) -> ModuleType:
    """Import a module of MMSegmentation, and withhold known remarks alone.

    The known remarks are a line on standard output about an optional platform, and a
    warning about a compiled operator that this package does not need. Errors, other
    output and other warnings are shown.
    """
    output = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(output):
            warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAtt')
            module = importlib.import_module(name)
    finally:
        kept = [line for line in output.getvalue().splitlines() if line.strip() != _REMARK]
        if kept:
            print('\n'.join(kept), file=sys.stdout)
    return module


class ConsoleFilter(logging.Filter):
    """A filter that withholds from the console the records that MMEngine repeats at every step.

    Records above the level of a warning are shown. The only warnings that are withheld
    are two that MMEngine addresses to itself.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is shown."""
        if record.levelno > logging.WARNING:
            return True
        return not record.getMessage().lstrip().startswith(_REPEATED)


def quieten_console(logger: logging.Logger) -> None:
    """Put a :class:`ConsoleFilter` on a logger's console, unless it shows everything (DEBUG)."""
    for handler in logger.handlers:
        to_file = isinstance(handler, logging.FileHandler)
        if (
            not to_file
            and handler.level > logging.DEBUG
            and not any(isinstance(kept, ConsoleFilter) for kept in handler.filters)
        ):
            handler.addFilter(ConsoleFilter())


def quieten_warnings() -> None:
    """Ignore, in this process, MMSegmentation's warnings about its own defaults."""
    for text in _DEFAULTS:
        warnings.filterwarnings('ignore', message=text)
