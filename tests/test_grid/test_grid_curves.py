"""Curves of a grid are the means over the seeds, and their bands one deviation wide."""

import statistics

import numpy as np
import pytest

from mmseg_cil.grid.curves import curve_figure
from mmseg_cil.grid.rows import CellState, Row
from mmseg_cil.grid.tables import scores_of

ALL = {'mib': [40.0, 42.0, 47.0], 'vdfd': [43.0, 44.0, 45.0]}


def panel_of_all():
    rows, states = [], []
    for method, values in ALL.items():
        for seed, value in enumerate(values):
            states.append(CellState('p', method, '', seed, 2, 'done'))
            rows += [
                Row('p', method, '', seed, step, dict(old=value, new=value / 2, all=value - step))
                for step in (0, 1)
            ]
    return curve_figure(scores_of(rows, states, 'mib')).axes[0]


@pytest.mark.parametrize(('place', 'method'), enumerate(ALL))
def test_a_band_is_one_deviation_around_the_mean(place, method):
    axes = panel_of_all()
    means = np.array([statistics.mean(ALL[method]) - step for step in (0, 1)])
    line = axes.get_lines()[place]
    np.testing.assert_allclose(line.get_xydata(), np.stack([[0, 1], means], axis=1))
    corners = axes.collections[place].get_paths()[0].vertices
    deviation = statistics.stdev(ALL[method])
    for step, mean in enumerate(means):
        heights = corners[corners[:, 0] == step, 1]
        assert heights.min() == pytest.approx(mean - deviation)
        assert heights.max() == pytest.approx(mean + deviation)
