"""The JSON that the benchmarks write beside their tables, all of one shape."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

#: Packages as MMSegmentation's maintainers and their successors publish them.
PACKAGES = (
    'torch',
    'numpy',
    *(
        f'{by}{name}'
        for by in ('', 'onedl-')
        for name in ('mmengine', 'mmcv', 'mmcv-lite', 'mmsegmentation')
    ),
)


def processor() -> str:
    """Return the name of the processor."""
    try:
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Return processor, number of cores and of threads, system and GPUs."""
    return dict(
        processor=processor(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        system=platform.platform(),
        gpus=[torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that do the work."""
    found = dict(python=platform.python_version())
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_outcome(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``command``, ``machine``, ``versions`` and ``rows`` of a benchmark.

    Args:
        path: The file.
        rows: A dict for each row of the table; ``name`` says which. Units are part of the keys.
    """
    command = ' '.join(['python', f'benchmarks/{Path(sys.argv[0]).stem}.py', *sys.argv[1:]])
    content = dict(command=command, machine=machine(), versions=versions(), rows=list(rows))
    path.write_text(json.dumps(content, indent=1) + '\n')
