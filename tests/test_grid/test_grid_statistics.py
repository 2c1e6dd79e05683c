"""Means over seeds, and Student's t against printed tables and simulation."""

import math

import pytest
import torch

from mmseg_cil.grid.statistics import paired_difference, summarise, t_probability, t_quantile


@pytest.mark.parametrize(
    ('degrees', 'expected'),
    # The two-sided 95 % points of any printed table.
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042)],
)
def test_quantiles_are_those_of_printed_tables(degrees, expected):
    assert t_quantile(0.975, degrees) == pytest.approx(expected, abs=6e-4)


def test_many_degrees_of_freedom_are_the_normal_distribution():
    assert t_probability(1.959964, 10_000) == pytest.approx(0.95, abs=1e-4)
    # One degree of freedom is Cauchy's distribution.
    assert t_probability(1.0, 1) == pytest.approx(0.5)
    assert t_probability(0.0, 7) == 0.0


def test_the_deviation_has_n_minus_1_in_its_denominator():
    found = summarise([1.0, 2.0, 4.0])
    assert (found.mean, found.count) == (pytest.approx(7 / 3), 3)
    assert found.deviation == pytest.approx(math.sqrt(7 / 3))
    assert summarise([5.0]).deviation is None and summarise([5.0]).mean == 5.0
    assert summarise([]).mean is None


def test_a_difference_is_over_the_seeds_that_both_have():
    found = paired_difference({1: 3.0, 2: 5.0, 9: 100.0}, {1: 1.0, 2: 4.0, 3: -7.0})
    assert (found.mean, found.count) == (1.5, 2)
    # Differences 2 and 1: deviation 0.7071, of the mean 0.5, times 12.706.
    assert found.half_width == pytest.approx(12.706 * 0.5, abs=1e-3)
    assert paired_difference({1: 1.0}, {2: 1.0}) is None
    assert paired_difference({1: 3.0}, {1: 1.0}).half_width is None


def test_what_all_seeds_have_in_common_is_no_uncertainty():
    offsets = {1: 10.0, 2: 40.0, 3: 25.0}
    found = paired_difference({k: v + 2 for k, v in offsets.items()}, offsets)
    assert found.mean == pytest.approx(2.0) and found.half_width == pytest.approx(0.0)


def test_intervals_hold_the_truth_as_often_as_they_say():
    draws = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    held = 0
    for draw in draws.tolist():
        found = paired_difference(dict(enumerate(draw)), dict.fromkeys(range(4), 0.0))
        held += abs(found.mean) <= found.half_width
    assert held / len(draws) == pytest.approx(0.95, abs=0.015)
