"""The table of a linear probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmseg_cil.visualization.tables import Table, percent

#: The means that are compared.
PARTS = ('old', 'base', 'new', 'all')


def probe_table(content: Mapping[str, Any]) -> Table:
    """Return one row a step: each mean of the step's network, and of the probe.

    Args:
        content: Content of ``probe.json``.
    """
    header = ['step', *(f'{part}{what}' for part in PARTS for what in ('', ', probed'))]
    rows = [
        [
            str(entry['step']),
            *(
                percent(means.get(part))
                for part in PARTS
                for means in (entry['mIoU'], entry['probe']['mIoU'])
            ),
        ]
        for entry in content['steps']
    ]
    caption = (
        'mIoU (%) of the steps, and with a new linear classifier of the frozen network, trained '
        'with the labels of all classes so far'
    )
    return Table(caption, header, rows, name='probe')
