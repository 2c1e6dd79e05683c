"""Local POD: distillation of feature maps pooled over regions at several scales."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.utils.values import check_choice

#: Scales of the paper: the whole map, quarters of the map, sixteenths of the map.
SCALES = (1, 2, 4)
REGIONS = ('even', 'official')
#: Number of values of a map that a CPU handles at a time.
_CHUNK = 2**18

Edges = tuple[int, ...]


def region_edges(height: int, width: int, scale: int, regions: str = 'even') -> tuple[Edges, Edges]:
    """Return the edges of the regions of one scale.

    'even' (our choice, for maps of any size) cuts an axis of L pixels at
    ``floor(r * L / scale)``: the regions cover the map, their sides differ by one pixel
    at most, and the regions of a scale are unions of the regions of any multiple of this
    scale. An axis of fewer pixels than ``scale`` has one region per pixel. 'official' is
    the computation of arthurdouillard/CVPR2021_PLOP ``train.py``, ``_local_pod``:
    regions are squares of side ``width // scale``, and the remaining pixels are
    dropped. On square maps whose side ``scale`` divides, both give the same regions.

    Args:
        height: Height of the map, in pixels.
        width: Width of the map, in pixels.
        scale: Number of regions along each axis.
        regions: 'even' or 'official'.

    Returns:
        Edges of the rows and of the columns, ascending, from 0.

    Raises:
        InputError: ``regions`` is unknown, or the official regions do not fit
            into the map (where the official code computes NaN or a part).
    """
    check_choice('local POD', 'regions', regions, REGIONS)
    if regions == 'even':
        rows, columns = min(scale, height), min(scale, width)
        return (
            tuple(r * height // rows for r in range(rows + 1)),
            tuple(c * width // columns for c in range(columns + 1)),
        )
    side = width // scale
    if side < 1 or side * scale > height:
        raise InputError(
            f'local POD: a map of {height} x {width} pixels has no {scale} x {scale} regions of '
            f"side width // {scale} = {side}: use regions='even', which fits any map"
        )
    edges = tuple(r * side for r in range(scale + 1))
    return edges, edges


def local_pod_distance(
    student: Tensor, teacher: Tensor, scales: Sequence[int] = SCALES, regions: str = 'even'
) -> Tensor:
    """Compute the distance of the local POD embeddings of two squared maps, by linearity.

    The distance equals the norm of ``local_pod(student**2) - local_pod(teacher**2)``.
    Pooling is linear, so the difference of the squared maps is pooled once,
    over the smallest intervals between edges of any scale; the regions of every
    scale are sums of these intervals. The distance can be differentiated once with respect
    to the student.

    Args:
        student: ``(N, C, H, W)``. Half precision is computed in float32.
        teacher: The same shape.
        scales: See :func:`local_pod`.
        regions: See :func:`region_edges`.

    Returns:
        ``(N,)``, not negative. At equal maps the gradient is zero.

    Raises:
        InputError: As :func:`region_edges`.
    """
    student, teacher = at_least_float32(student), at_least_float32(teacher)
    height, width = student.shape[2:]
    edges = tuple(region_edges(height, width, scale, regions) for scale in scales)
    distance: Tensor = _PodDistance.apply(student, teacher, edges)
    return distance


class _PodDistance(Function):
    """The distance, and its gradient by the student in one pass over the map.

    At each pixel the gradient is the student times the sum of two numbers: one per row and
    interval of columns, and one per column and interval of rows. Autograd would expand, add
    up and multiply maps of full size.
    """

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, edges: Sequence[tuple[Edges, Edges]]
    ) -> Tensor:
        # Edges of all R row intervals and of all K column intervals, over all scales.
        row_cuts = sorted({edge for rows, _ in edges for edge in rows})
        column_cuts = sorted({edge for _, columns in edges for edge in columns})
        ctx.cuts = row_cuts, column_cuts
        # by_row: (N, C, H, K), by_column: (N, C, R, W).
        by_row, by_column = _sums_of_squares(student, teacher, row_cuts, column_cuts)
        # (N,): squared distance, summed over scales.
        square = student.new_zeros(len(student))
        # Half the gradient of the squared distance by by_row and by_column, of the same shapes.
        row_gradient, column_gradient = torch.zeros_like(by_row), torch.zeros_like(by_column)
        for rows, columns in edges:
            # Pixels that no region of this scale covers (official regions only) are left out.
            square += _add_scale(
                by_row[:, :, : rows[-1]],
                row_gradient[:, :, : rows[-1]],
                column_cuts,
                columns,
                dim=3,
            )
            square += _add_scale(
                by_column[..., : columns[-1]],
                column_gradient[..., : columns[-1]],
                row_cuts,
                rows,
                dim=2,
            )
        distance = square.sqrt_()  # (N,)
        ctx.save_for_backward(student, distance, row_gradient, column_gradient)
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        student, distance, by_row, by_column = ctx.saved_tensors
        rows, columns = ctx.cuts
        # (N, 1, 1, 1): the gradient of the norm at zero is taken to be zero.
        factor = torch.where(distance > 0, 2 * gradient / distance, 0.0)[:, None, None, None]
        # (N, C, H, W): twice the gradient by the squared student, then the gradient by the student.
        result = _outer_sum(by_row * factor, by_column * factor, rows, columns, student.shape)
        return result.mul_(student), None, None


def _sums_of_squares(
    student: Tensor, teacher: Tensor, rows: Sequence[int], columns: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return the difference of the squared maps, summed over intervals of width and height.

    The sums over intervals of the width are ``(N, C, H, K)``, those over intervals of the
    height ``(N, C, R, W)``.
    """
    # Channels are split on a CPU, where allocating a map of many megabytes costs more than the
    # computation in it.
    pixels = student[:, :1].numel()
    channels = max(1, _CHUNK // pixels) if student.device.type == 'cpu' else student.shape[1]
    by_row, by_column = [], []
    for own, other in zip(student.split(channels, 1), teacher.split(channels, 1), strict=True):
        # (N, c, H, W) for c channels: (a - b)(a + b) is exactly zero at equal maps, and loses no
        # digits near them.
        difference = (own - other).mul_(own + other)
        by_row.append(_interval_sums(difference, columns, dim=3))  # (N, c, H, K)
        by_column.append(_interval_sums(difference, rows, dim=2))  # (N, c, R, W)
    return torch.cat(by_row, dim=1), torch.cat(by_column, dim=1)


def _add_scale(
    sums: Tensor, gradient: Tensor, cuts: Sequence[int], edges: Edges, dim: int
) -> Tensor:
    """Return the squared norm ``(N,)`` of the means over the intervals of one scale.

    Args:
        sums: Sums over the intervals between ``cuts`` along ``dim``; ``(N, C, H, K)`` for
            dim 3, ``(N, C, R, W)`` for dim 2.
        gradient: Changed in place: half the gradient of the squared norm by ``sums`` is added.
        cuts: Cuts of the axis, which include the edges.
        edges: Edges of the scale.
        dim: 2 or 3.
    """
    places = [cuts.index(edge) for edge in edges]
    lengths = [after - before for before, after in itertools.pairwise(edges)]
    # means and parts are (N, C, H, k) for dim 3 and (N, C, r, W) for dim 2, with the k columns or
    # r rows of regions of this scale.
    means = sums if len(places) == len(cuts) else _interval_sums(sums, places, dim)
    if len(set(lengths)) == 1:
        means = means / lengths[0]
        parts = means / lengths[0]
    else:
        # (k,) or (r, 1), so that they fit the last axis or the axis before it.
        inverses = _inverses(tuple(lengths), sums.dtype, sums.device)
        inverses = inverses.unsqueeze(-1) if dim == 2 else inverses
        means = means * inverses
        parts = means * inverses
    gradient += parts if len(places) == len(cuts) else _spread(parts, places, sums.shape[dim], dim)
    # Not as a product of vectors, which autocast would compute in half precision.
    return means.square().sum(dim=(1, 2, 3))


def _outer_sum(
    by_row: Tensor,
    by_column: Tensor,
    rows: Sequence[int],
    columns: Sequence[int],
    shape: torch.Size,
) -> Tensor:
    """Return the map in which each pixel is the sum of its numbers in both arguments.

    This is the transpose of :func:`_interval_sums` over both axes.

    Args:
        by_row: ``(N, C, H, number of column intervals)``.
        by_column: ``(N, C, number of row intervals, W)``.
        rows: Cuts of the rows, from 0.
        columns: Cuts of the columns, from 0.
        shape: Shape of the map, ``(N, C, H, W)``. Pixels after the last cut of an axis get 0 from
            the sums over this axis.
    """
    if _is_even(rows, shape[2]) and _is_even(columns, shape[3]):
        # View of the map as (N, C, R, height of a row interval, K, width of a column interval).
        grid = (len(rows) - 1, rows[1], len(columns) - 1, columns[1])
        return torch.add(
            by_row.reshape(*shape[:2], *grid[:3], 1),
            by_column.reshape(*shape[:2], grid[0], 1, *grid[2:]),
        ).view(shape)
    return _spread(by_row, columns, shape[3], dim=3) + _spread(by_column, rows, shape[2], dim=2)


def _is_even(cuts: Sequence[int], length: int) -> bool:
    """Return whether the intervals have equal lengths and cover the axis."""
    return cuts[-1] == length and list(cuts) == list(range(0, length + 1, cuts[1]))


def _spread(sums: Tensor, cuts: Sequence[int], length: int, dim: int) -> Tensor:
    """Repeat the number of each interval for all its pixels along an axis, 0 after the last."""
    pieces = [
        part.expand(*(after - before if axis == dim else -1 for axis in range(4)))
        for part, (before, after) in zip(sums.split(1, dim), itertools.pairwise(cuts), strict=True)
    ]
    if cuts[-1] < length:
        pieces.append(
            sums.new_zeros(()).expand(
                *(
                    length - cuts[-1] if axis == dim else size
                    for axis, size in enumerate(sums.shape)
                )
            )
        )
    return torch.cat(pieces, dim=dim)


def _interval_sums(maps: Tensor, cuts: Sequence[int], dim: int) -> Tensor:
    """Sum between neighbouring cuts of an axis (2 or 3), whose length becomes ``len(cuts) - 1``."""
    count, end = len(cuts) - 1, cuts[-1]
    if _is_even(cuts, end):
        # The axis becomes two: number of the interval, and pixel in the interval.
        return maps.narrow(dim, 0, end).unflatten(dim, (count, cuts[1])).sum(dim=dim + 1)
    sizes = [after - before for before, after in itertools.pairwise(cuts)]
    # Splitting once, unlike slicing, has a backward pass that writes each pixel once.
    pieces = maps.narrow(dim, 0, end).split(sizes, dim=dim)
    return torch.stack([piece.sum(dim=dim) for piece in pieces], dim=dim)


@functools.lru_cache(maxsize=256)
def _inverses(lengths: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return 1 over each length.

    The result is cached: copying numbers to a device at every iteration makes the device wait.
    """
    return torch.tensor([1.0 / length for length in lengths], dtype=dtype, device=device)


def fold_new_classes(student_logits: Tensor, num_old: int) -> Tensor:
    """Return logits over the old classes, with those of new classes added to the background's.

    Source: arthurdouillard/CVPR2021_PLOP ``train.py``, ``features_distillation``.

    Args:
        student_logits: ``(N, C, H, W)``, background at 0.
        num_old: Number of classes that the teacher knows.

    Returns:
        ``(N, num_old, H, W)``.
    """
    if student_logits.shape[1] == num_old:
        return student_logits
    # (N, 1, H, W): sum of the new classes' logits.
    extra = student_logits[:, num_old:].sum(dim=1, keepdim=True)
    old = student_logits[:, :num_old]
    # The sum is padded with zero channels to (N, num_old, H, W): it changes the background alone.
    return old + functional.pad(extra, (0, 0, 0, 0, 0, num_old - 1))


def local_pod_loss(
    students: Sequence[Tensor],
    teachers: Sequence[Tensor],
    factors: Sequence[float],
    growth: float = 1.0,
    scales: Sequence[int] = SCALES,
    regions: str = 'even',
) -> Tensor:
    r"""Return the contribution of every map to the POD loss, which is the sum of them.

    .. math:: \frac{f_l \cdot \mathrm{growth}}{L} \cdot \frac{1}{N} \sum_n
              \big\| \Psi((h^t_{l,n})^2) - \Psi((h^{t-1}_{l,n})^2) \big\|

    Source: Douillard et al., CVPR 2021, equation 6; squares, the mean over the
    L maps and the factors come from arthurdouillard/CVPR2021_PLOP
    ``train.py``, ``features_distillation``.

    Args:
        students: L maps ``(N, C_l, H_l, W_l)``; logits already folded
            (:func:`fold_new_classes`).
        teachers: L maps of the same shapes.
        factors: Weight of each map.
        growth: The official ``sqrt(classes seen / new classes)``.
        scales: See :func:`local_pod`.
        regions: See :func:`region_edges`.

    Returns:
        ``(L,)``.

    Raises:
        InputError: Maps of student and teacher differ in number or shape, or
            :func:`region_edges` raises it.
    """
    shapes = [[tuple(feature.shape) for feature in maps] for maps in (students, teachers)]
    if shapes[0] != shapes[1] or len(factors) != len(students):
        raise InputError(
            f'local POD compares maps of equal shape, one factor each, but got '
            f'{shapes[0]}, {shapes[1]} and {len(factors)} factors'
        )
    return torch.stack(
        [
            # The distance is (N,); the mean over images is a scalar per map.
            local_pod_distance(student, teacher, scales, regions).mean()
            * (factor * growth / len(students))
            for student, teacher, factor in zip(students, teachers, factors, strict=True)
        ]
    )
