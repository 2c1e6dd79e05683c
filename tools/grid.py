"""Walks methods x protocols x seeds x settings, and puts the scores in one table.

    python tools/grid.py CONFIG --methods finetune mib plop vdfd --protocols voc_15-1 \
        --seeds 1 2 3 --work-dir DIR [--workers 2] [--threads-per-worker 1] [--gpus 0,1]
        [--set [METHOD:]KEY=VALUE[,VALUE...] ...] [--baseline mib] [--cfg-options key=value ...]
    python tools/grid.py --tables DIR

The same command goes on with what is unfinished. Exit status: 0 done, 1 a cell has failed
(the others are walked), 2 wrong usage or input, 130 after Ctrl-C and 143 after SIGTERM or
SIGUSR1, when the walks have saved their states.
"""

from __future__ import annotations

import sys
from pathlib import Path

# A checkout works without installation.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg_cil.utils.cli import run_tool


def main() -> int:
    """The tool."""
    from mmseg_cil.grid.command import main

    return main()


if __name__ == '__main__':
    run_tool(main, goes_on='the same command goes on')
