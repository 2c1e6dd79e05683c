"""Prints the steps of a protocol: the command ``mmseg-cil protocols``, which lists them too."""

from __future__ import annotations

import sys
from pathlib import Path

# A checkout works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg_cil.cli import protocols
from mmseg_cil.utils.cli import run_tool


def main() -> None:
    """Run the command."""
    parser = protocols.make_parser()
    args = parser.parse_args()
    if bool(args.name) == bool(args.config):
        parser.error('give either the name of a protocol or --config')
    protocols.run(args)


if __name__ == '__main__':
    run_tool(main)
