"""Renders the report of a walk, or a comparison: the command ``mmseg-cil report``."""

from __future__ import annotations

import sys
from pathlib import Path

# A checkout works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg_cil.cli.commands import COMMANDS
from mmseg_cil.utils.cli import run_tool


def main() -> int | None:
    """Run the command."""
    return COMMANDS['report'].call()


if __name__ == '__main__':
    run_tool(main, goes_on=COMMANDS['report'].goes_on)
