"""Local POD: distillation of feature maps pooled over regions at several scales."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.losses.precision import at_least_float32

#: Scales of the paper: the whole map, its quarters, its sixteenths.
SCALES = (1, 2, 4)
REGIONS = ('even', 'official')

Edges = tuple[int, ...]


def region_edges(height: int, width: int, scale: int, regions: str = 'even') -> tuple[Edges, Edges]:
    """Where the regions of one scale begin and end.

    'even' (our choice, for maps of any size) cuts an axis of L pixels at
    ``floor(r * L / scale)``: regions cover the map, differ by one pixel at
    most, and those of a scale are unions of those of its multiples. An axis of
    fewer pixels than ``scale`` has one region a pixel. 'official' is the
    computation of arthurdouillard/CVPR2021_PLOP ``train.py``, ``_local_pod``:
    regions are squares of ``width // scale`` on both axes and what remains is
    dropped. On square maps that ``scale`` divides the two are equal.

    Args:
        height: Of the map, in pixels.
        width: Of the map, in pixels.
        scale: Regions along each axis.
        regions: 'even' or 'official'.

    Returns:
        Edges of the rows and of the columns, ascending, from 0.

    Raises:
        InputError: ``regions`` is unknown, or the official regions do not fit
            into the map (where the official code computes NaN or a part).
    """
    if regions not in REGIONS:
        raise InputError(f'local POD: regions must be one of {REGIONS}, got {regions!r}')
    if regions == 'even':
        rows, columns = min(scale, height), min(scale, width)
        return (tuple(r * height // rows for r in range(rows + 1)),
                tuple(c * width // columns for c in range(columns + 1)))
    side = width // scale
    if side < 1 or side * scale > height:
        raise InputError(
            f"local POD: a map of {height} x {width} pixels has no {scale} x {scale} regions of "
            f"side width // {scale} = {side}: use regions='even', which fits any map")
    edges = tuple(r * side for r in range(scale + 1))
    return edges, edges


def local_pod(maps: Tensor, scales: Sequence[int] = SCALES, regions: str = 'even') -> Tensor:
    """The local POD embedding, stated plainly.

    For every scale, region row and region column: the mean over the region's
    width, channels before rows, then the mean over its height, channels before
    columns. Maps are not squared here.

    Source: Douillard et al., "PLOP: Learning without Forgetting for Continual
    Semantic Segmentation", CVPR 2021, equations 3 to 5.

    Args:
        maps: ``(N, C, H, W)``.
        scales: Regions along each axis, for each scale.
        regions: See :func:`region_edges`.

    Returns:
        ``(N, E)``; with even regions ``E = C * sum_s (s * H + s * W)``.

    Raises:
        InputError: As :func:`region_edges`.
    """
    parts = []
    for scale in scales:
        rows, columns = region_edges(maps.shape[2], maps.shape[3], scale, regions)
        for top, bottom in itertools.pairwise(rows):
            for left, right in itertools.pairwise(columns):
                region = maps[:, :, top:bottom, left:right]
                parts += [region.mean(dim=3).flatten(1), region.mean(dim=2).flatten(1)]
    return torch.cat(parts, dim=1)


def local_pod_distance(student: Tensor,
                       teacher: Tensor,
                       scales: Sequence[int] = SCALES,
                       regions: str = 'even') -> Tensor:
    """Distance of the embeddings of two squared maps, by linearity.

    Equal to the norm of ``local_pod(student**2) - local_pod(teacher**2)``.
    Pooling is linear, so the difference of the squared maps is pooled once,
    over the smallest intervals between edges of any scale; the regions of every
    scale are sums of those.

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
    difference = (student * student).sub_(teacher * teacher)
    height, width = difference.shape[2:]
    edges = [region_edges(height, width, scale, regions) for scale in scales]
    row_cuts = sorted({edge for rows, _ in edges for edge in rows})
    column_cuts = sorted({edge for _, columns in edges for edge in columns})
    over_width = _interval_sums(difference, column_cuts, dim=3)
    over_height = _interval_sums(difference, row_cuts, dim=2)
    norms = []
    for rows, columns in edges:
        # What no region of this scale covers (official regions only) is left out.
        norms.append(_norm_of_means(over_width[:, :, :rows[-1]], column_cuts, columns, dim=3))
        norms.append(_norm_of_means(over_height[:, :, :, :columns[-1]], row_cuts, rows, dim=2))
    return torch.linalg.vector_norm(torch.stack(norms), dim=0)


def _interval_sums(maps: Tensor, cuts: Sequence[int], dim: int) -> Tensor:
    """Sums between neighbouring cuts of an axis (2 or 3): its length becomes ``len(cuts) - 1``."""
    count, end = len(cuts) - 1, cuts[-1]
    if cuts[1] * count == end and list(cuts) == [cuts[1] * i for i in range(count + 1)]:
        return maps.narrow(dim, 0, end).unflatten(dim, (count, cuts[1])).sum(dim=dim + 1)
    sizes = [after - before for before, after in itertools.pairwise(cuts)]
    # Splitting once, unlike slicing, has a backward pass that writes each pixel once.
    pieces = maps.narrow(dim, 0, end).split(sizes, dim=dim)
    return torch.stack([piece.sum(dim=dim) for piece in pieces], dim=dim)


def _norm_of_means(sums: Tensor, cuts: Sequence[int], edges: Edges, dim: int) -> Tensor:
    """Norm ``(N,)`` of the means over the intervals between ``edges``, a subset of ``cuts``."""
    places = [cuts.index(edge) for edge in edges]
    merged = sums
    if len(places) < len(cuts):
        merged = _interval_sums(sums, places, dim)
    lengths = [after - before for before, after in itertools.pairwise(edges)]
    if len(set(lengths)) == 1:
        return torch.linalg.vector_norm(merged.flatten(1), dim=1) / lengths[0]
    factors = _inverses(tuple(lengths), merged.dtype, merged.device)
    factors = factors.unsqueeze(-1) if dim == 2 else factors
    return torch.linalg.vector_norm((merged * factors).flatten(1), dim=1)


@functools.lru_cache(maxsize=256)
def _inverses(lengths: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """1 over each length. Kept: copying numbers to a device at every iteration makes it wait."""
    return torch.tensor([1.0 / length for length in lengths], dtype=dtype, device=device)


def fold_new_classes(student_logits: Tensor, num_old: int) -> Tensor:
    """Logits over the old classes: those of new classes are added to the background's.

    Source: arthurdouillard/CVPR2021_PLOP ``train.py``, ``features_distillation``.

    Args:
        student_logits: ``(N, C, H, W)``, background at 0.
        num_old: Classes the teacher knows.

    Returns:
        ``(N, num_old, H, W)``.
    """
    if student_logits.shape[1] == num_old:
        return student_logits
    extra = student_logits[:, num_old:].sum(dim=1, keepdim=True)
    old = student_logits[:, :num_old]
    return old + functional.pad(extra, (0, 0, 0, 0, 0, num_old - 1))


def local_pod_loss(students: Sequence[Tensor],
                   teachers: Sequence[Tensor],
                   factors: Sequence[float],
                   growth: float = 1.0,
                   scales: Sequence[int] = SCALES,
                   regions: str = 'even') -> Tensor:
    r"""Contribution of every map to the POD loss; the loss is their sum.

    .. math:: \frac{f_l \cdot \mathrm{growth}}{L} \cdot \frac{1}{N} \sum_n
              \big\| \Psi((h^t_{l,n})^2) - \Psi((h^{t-1}_{l,n})^2) \big\|

    Source: Douillard et al., CVPR 2021, equation 6; squares, the mean over the
    L maps and the factors are those of arthurdouillard/CVPR2021_PLOP
    ``train.py``, ``features_distillation``.

    Args:
        students: L maps ``(N, C_l, H_l, W_l)``; logits already folded.
        teachers: The same shapes.
        factors: Weight of each map.
        growth: The official ``sqrt(classes seen / new classes)``.
        scales: See :func:`local_pod`.
        regions: See :func:`region_edges`.

    Returns:
        ``(L,)``.

    Raises:
        InputError: Maps of student and teacher differ in number or shape, or
            as :func:`region_edges`.
    """
    shapes = [[tuple(one.shape) for one in maps] for maps in (students, teachers)]
    if shapes[0] != shapes[1] or len(factors) != len(students):
        raise InputError(f'local POD compares maps of equal shape, one factor each, but got '
                         f'{shapes[0]}, {shapes[1]} and {len(factors)} factors')
    return torch.stack([
        local_pod_distance(student, teacher, scales, regions).mean() * (factor * growth
                                                                        / len(students))
        for student, teacher, factor in zip(students, teachers, factors, strict=True)
    ])
