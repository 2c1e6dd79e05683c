"""Rows of ``benchmarks/losses.py``: a loss in plain and in fast form, with its tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

#: Called with the tensors of a case, student first; the loss is the sum of what it returns.
Form = Callable[..., Tensor]
#: Largest difference between the forms, over the largest expected value.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: The loss.
        shape: Sizes of its input, as text.
        draw: Makes the tensors, from device and batch size; the first is the student's.
        plain: The formula as it is written.
        fast: The form that the package uses.
    """

    name: str
    shape: str
    draw: Callable[[str, int], tuple[Tensor, ...]]
    plain: Form
    fast: Form


@dataclass(frozen=True)
class Group:
    """Rows that belong together.

    Attributes:
        title: Said above the rows.
        cases: Makes the rows; with True small ones that only show that they run.
        faster: Target of the ratio of times, over all rows.
        memory: Target of the ratio of memories, or None.
    """

    title: str
    cases: Callable[[bool], list[Case]]
    faster: float
    memory: float | None = None
