"""Re-evaluates the steps of a walk: the command ``mmseg-cil test``."""

from __future__ import annotations

import sys
from pathlib import Path

# A checkout works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg_cil.cli.commands import COMMANDS
from mmseg_cil.utils.cli import run_tool


def main() -> int | None:
    """Run the command."""
    return COMMANDS['test'].call()


if __name__ == '__main__':
    run_tool(main, goes_on=COMMANDS['test'].goes_on)
