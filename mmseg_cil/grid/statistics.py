"""Means, deviations, and paired differences with their confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Probability of the intervals.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """The summary of one value over several seeds.

    Attributes:
        mean: Mean of all values; None without any.
        deviation: Standard deviation of the values, n - 1 in the denominator; None for fewer than
            two.
        count: Number of values.
    """

    mean: float | None
    deviation: float | None
    count: int


@dataclass(frozen=True)
class Difference:
    """A row minus the baseline, over the seeds that both have.

    Attributes:
        mean: Mean of the differences.
        half_width: Half width of the interval of Student's t around the mean; None for fewer than
            two.
        count: Number of pairs.
    """

    mean: float
    half_width: float | None
    count: int


def summarise(values: Sequence[float]) -> Summary:
    """Return mean and standard deviation of some values."""
    count = len(values)
    if not count:
        return Summary(None, None, 0)
    mean = math.fsum(values) / count
    if count < 2:
        return Summary(mean, None, count)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return Summary(mean, math.sqrt(squares / (count - 1)), count)


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float], confidence: float = CONFIDENCE
) -> Difference | None:
    """Return how much higher some values are than those of the baseline, seed by seed.

    Args:
        values: The values by seed.
        baseline: The values of the baseline by seed.
        confidence: Probability of the interval, in (0, 1).

    Returns:
        The difference; None where no seed has both values.
    """
    found = summarise([values[seed] - baseline[seed] for seed in sorted({*values} & {*baseline})])
    if found.mean is None:
        return None
    if found.deviation is None:
        return Difference(found.mean, None, found.count)
    quantile = t_quantile((1 + confidence) / 2, found.count - 1)
    return Difference(found.mean, quantile * found.deviation / math.sqrt(found.count), found.count)


def t_probability(value: float, degrees: int) -> float:
    """Return the probability that Student's t is between minus a value and the value.

    The probability is computed by the finite sums for whole degrees of freedom: Abramowitz and
    Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.

    Args:
        value: 0 or more.
        degrees: Degrees of freedom, 1 or more.
    """
    angle = math.atan(value / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    term = cosine if degrees % 2 else 1.0
    total = 0.0
    for k in range(degrees // 2):
        total += term
        # From cos^m to cos^(m + 2): the factor is even over odd for odd degrees.
        step = 2 * k + 2
        term *= cosine**2 * (step / (step + 1) if degrees % 2 else (step - 1) / step)
    if degrees % 2:
        return 2 / math.pi * (angle + sine * total)
    return sine * total


def t_quantile(probability: float, degrees: int) -> float:
    """Return the value that Student's t is below with a probability.

    Args:
        probability: In [0.5, 1).
        degrees: Degrees of freedom, 1 or more.
    """
    inside = 2 * probability - 1
    low, high = 0.0, 1.0
    while t_probability(high, degrees) < inside:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if t_probability(middle, degrees) < inside:
            low = middle
        else:
            high = middle
    return (low + high) / 2
