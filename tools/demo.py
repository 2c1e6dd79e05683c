"""Watches fine-tuning forget and other methods remember: the command ``mmseg-cil demo``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mmseg_cil.cli import demo
from mmseg_cil.cli.commands import COMMANDS
from mmseg_cil.utils.cli import run_tool


def main() -> int:
    """Run the demo, which a checkout keeps in its own folder."""
    parser = demo.make_parser()
    parser.set_defaults(work_dir=ROOT / 'work_dirs/demo')
    return demo.run(parser.parse_args())


if __name__ == '__main__':
    run_tool(main, goes_on=COMMANDS['demo'].goes_on)
