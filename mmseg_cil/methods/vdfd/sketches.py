r"""Sketches of the second moment of the outputs' gradients, in addition to their mean.

The mean output says little about single pixels: a change that raises some pixels' outputs and
lowers others' leaves the mean as it was. The second moment
:math:`E_x[\delta_x^T \Sigma^{-1} \delta_x]` registers such a change, where
:math:`\delta_x = J_x^T (w - w^*)` belongs to one image or pixel x. The second moment is the
quadratic form of the mean output plus that of the deviations from the mean. S random combinations
of the deviations stand for the latter: with independent signs :math:`\epsilon`

.. math:: g_r = \frac{1}{\sqrt{S}} \sum_x \sqrt{v_x}\, \epsilon_{x,r} (J_x - \bar J), \qquad
          \bar J = \sum_x v_x J_x, \qquad \sum_x v_x = 1

the sum of the forms of :math:`\bar J` and of all :math:`g_r` is the second moment in expectation.
All nodes share the signs of a sample, as they share its covariance. Sketches are a design choice:
the publication has the mean alone.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

#: Values of the option ``samples``.
SAMPLES = ('images', 'pixels')


def signs_of(
    images: Sequence[Tensor], sketches: int, samples: str, size: tuple[int, ...]
) -> Tensor:
    """Draw the signs of images by the content of the images.

    The signs depend neither on the division of images into batches nor on processes.

    Args:
        images: N images as they are read, on the CPU.
        sketches: S.
        samples: One of :data:`SAMPLES`.
        size: h and w of the logits.

    Returns:
        ``(N, S, h, w)``, or ``(N, S, 1, 1)`` for whole images; 1 and -1.
    """
    # (S, h, w) or (S, 1, 1).
    shape = (sketches, *(size if samples == 'pixels' else (1, 1)))
    drawn = []
    for image in images:
        seed = zlib.crc32(image.detach().cpu().contiguous().numpy().tobytes())
        draw = torch.Generator().manual_seed(seed)
        drawn.append(2.0 * torch.randint(2, shape, generator=draw) - 1.0)
    return torch.stack(drawn)


def sketch_sums(own: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums over a batch from which the mean outputs and the sketches are computed.

    Args:
        own: ``(N, nodes, h, w)`` logits of the nodes.
        signs: See :func:`signs_of`.

    Returns:
        The sums ``(nodes * (1 + S),)``, with the sums of a node next to each other and that of
        the mean first; and, of the same shape, the number of images and the sums of weighted
        signs.
    """
    count = own.shape[2] * own.shape[3]  # pixels of an image
    means = own.mean(dim=(2, 3))  # (N, nodes)
    # mixed, (nodes, S): sums of sign times logit, or of sign times the mean logit of an image.
    # beside, (S,): sums of the signs. Sums over pixels are divided by the root of their number.
    if signs.shape[2:] == own.shape[2:]:
        mixed = torch.einsum('nkhw,nshw->ks', own, signs) / math.sqrt(count)
        beside = signs.sum(dim=(0, 2, 3)) / math.sqrt(count)
    else:
        mixed = means.T @ signs.flatten(1)
        beside = signs.sum(dim=(0, 2, 3))
    sums = torch.cat([means.sum(dim=0).unsqueeze(1), mixed], dim=1)  # (nodes, 1 + S)
    # (nodes, 1 + S), the same for every node.
    counts = torch.cat([beside.new_full((1,), len(own)), beside]).expand_as(sums)
    return sums.flatten(), counts.flatten()


def sketched_gradients(sums: Tensor, beside: Tensor, cells: int) -> Tensor:
    """Return the gradients of the mean outputs and the sketches of the deviations.

    Args:
        sums: ``(F, nodes * cells)`` gradients of the sums, over all batches.
        beside: ``(nodes * cells,)``, see :func:`sketch_sums`, over all batches.
        cells: 1 + S.

    Returns:
        ``(F, nodes * cells)``.
    """
    by_node = sums.unflatten(1, (-1, cells))  # (F, nodes, 1 + S)
    # (nodes, 1) and (nodes, S).
    images, signs = beside.unflatten(0, (-1, cells)).split([1, cells - 1], dim=1)
    images = images.clamp(min=1)
    mean = by_node[..., :1] / images  # (F, nodes, 1)
    # (F, nodes, S): sketches of the deviations from the mean.
    centred = (by_node[..., 1:] - signs * mean) / (images * (cells - 1)).sqrt()
    return torch.cat([mean, centred], dim=2).flatten(1)
