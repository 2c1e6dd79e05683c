"""MMEngine and MMSegmentation without the remarks that they repeat at every step."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
import warnings
from types import ModuleType

_REMARK = 'Could not import OneDL'

#: Beginnings of log records that a walk would print anew at each step, and that say nothing of it.
_REPEATED = (
    # Environment, config and hooks: hundreds of lines, which stay in the step's log file.
    '-----', 'Config:', 'Hooks will be executed', 'Distributed training is not used', 'Exp name:',
    'paramwise_options',
    # Printed once at the beginning of a walk; every step's log file begins with it.
    'as published: ',
    # MMEngine's own calls of what it is about to drop.
    '"FileClient" will be deprecated', '"HardDiskBackend" is the alias',
)  # fmt: skip

#: Warnings about defaults of MMSegmentation, one for each head that is built.
_DEFAULTS = (
    'Default ``avg_non_ignore`` is False',
    # A head of two classes, as step 1 of voc_1-1 has, which is to grow.
    'For binary segmentation, we suggest', 'threshold is not defined for binary',
    # It stands in every schedule of MMSegmentation.
    'The draw is False, it means that the hook for visualization',
)  # fmt: skip


def import_quietly(name: str) -> ModuleType:
    """Imports a module of MMSegmentation; nothing but known remarks is withheld.

    They are a line on standard output about an optional platform, and a warning
    about a compiled operator that nothing here needs. Errors, other output and
    other warnings come through.
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
    """Withholds from the console what MMEngine says alike at every step.

    Nothing above the level of a warning is withheld, and of warnings only the
    two that MMEngine addresses to itself.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        if record.levelno > logging.WARNING:
            return True
        return not record.getMessage().lstrip().startswith(_REPEATED)


def quieten_console(logger: logging.Logger) -> None:
    """Puts a :class:`ConsoleFilter` on a logger's console, unless that is to show all (DEBUG)."""
    for handler in logger.handlers:
        to_file = isinstance(handler, logging.FileHandler)
        if (
            not to_file
            and handler.level > logging.DEBUG
            and not any(isinstance(kept, ConsoleFilter) for kept in handler.filters)
        ):
            handler.addFilter(ConsoleFilter())


def quieten_warnings() -> None:
    """Ignores the warnings that MMSegmentation gives of its own defaults, for this process."""
    for text in _DEFAULTS:
        warnings.filterwarnings('ignore', message=text)
