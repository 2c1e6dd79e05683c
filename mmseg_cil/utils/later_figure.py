"""Visualizers of MMEngine whose figure is made when they first draw.

Most visualizers only log numbers; the figure that MMEngine makes for each takes an import of
matplotlib, about half a second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mmengine.visualization import Visualizer


class _Figure:
    """Canvas, figure and axes, made when they are first needed."""

    def __init__(self, make: Callable[[], Sequence[Any]]) -> None:
        self._make = make
        self._parts: Sequence[Any] | None = None

    def part(self, place: int) -> Any:
        """Return canvas (0), figure (1) or axes (2)."""
        if self._parts is None:
            self._parts = self._make()
        return self._parts[place]


class _Part:
    """One of the three parts of a figure."""

    def __init__(self, figure: _Figure, place: int) -> None:
        self._figure, self._place = figure, place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._figure.part(self._place), name)

    def get_dpi(self) -> Any:
        """Return the dots per inch, as a number that is known when it is used."""
        return _Dots(self._figure)


class _Dots:
    """The dots per inch of a figure: a number that others are divided by."""

    def __init__(self, figure: _Figure) -> None:
        self._figure = figure

    def __float__(self) -> float:
        return float(self._figure.part(1).get_dpi())

    def __rtruediv__(self, other: float) -> float:
        return other / float(self)

    def __rmul__(self, other: float) -> float:
        return other * float(self)

    __mul__ = __rmul__


@contextlib.contextmanager
def figures_later() -> Iterator[None]:
    """Let visualizers that are built in the block make their figures when they draw."""
    former = Visualizer._initialize_fig

    def later(visualizer: Visualizer, config: Any) -> tuple[_Part, ...]:
        figure = _Figure(lambda: former(visualizer, config))
        return tuple(_Part(figure, place) for place in range(3))

    Visualizer._initialize_fig = later
    try:
        yield
    finally:
        Visualizer._initialize_fig = former
