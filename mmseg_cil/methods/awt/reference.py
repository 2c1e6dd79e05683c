"""AWT in plain form, for reading and for tests; training does not use it.

Tests compare these forms with stored numbers of the official code and with integrated gradients
that are summed numerically, and the pass over the images with these forms.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def attribution_map(embedding: Tensor, baseline: Tensor, row: Tensor, mass: Tensor) -> Tensor:
    r"""Return the integrated gradients of the summed background logit, ``(D, h, w)``.

    The logit is upsampled to the image and summed over its pixels, and the path leads from the
    embedding of an image of zeros to that of the image. A classifier with a kernel of 1x1 is
    linear, so its gradient is the same along the whole path, and the integral is a product:

    .. math:: A_d(i) = (f_d(i) - f^0_d(i)) \, w_d \, m(i)

    Source: Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017, equation 1;
    dfki-av/AWT-for-CISS ``attribute.py``, which sums the integral in 50 parts.

    Args:
        embedding: f, ``(D, h, w)``, the input of the classifier for an image.
        baseline: f^0, ``(D, h, w)``, the input of the classifier for an image of normalised zeros.
        row: w, ``(D,)``, the background's weights.
        mass: m, ``(h, w)``, the sum of the weights with which upsampling gives a cell to pixels.

    Example:
        >>> embedding = torch.tensor([3.0, 1.0]).reshape(2, 1, 1)
        >>> baseline = torch.tensor([1.0, 1.0]).reshape(2, 1, 1)
        >>> row, mass = torch.tensor([0.5, 2.0]), torch.full((1, 1), 4.0)
        >>> attribution_map(embedding, baseline, row, mass).flatten().tolist()
        [4.0, 0.0]
    """
    return (embedding - baseline) * row[:, None, None] * mass


def channel_attribution(maps: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """Return the greatest cell of each channel in the mean of masked maps, ``(D,)``.

    The mean is over the images that show a new class. A cell outside all masks is 0.

    Source: Goswami et al., "Attribution-aware Weight Transfer: A Warm-Start Initialization for
    Class-Incremental Semantic Segmentation", WACV 2023, figure 3; ``attribute.py``.

    Args:
        maps: The attribution ``(D, h, w)`` of each image.
        masks: For each image, the cells ``(h, w)`` of new classes, bool.

    Example:
        >>> maps = [torch.tensor([[[1.0, 9.0]]]), torch.tensor([[[3.0, 9.0]]])]
        >>> # The second cell does not show the class.
        >>> channel_attribution(maps, [torch.tensor([[True, False]])] * 2).tolist()
        [2.0]
    """
    shown = [image * mask for image, mask in zip(maps, masks, strict=True) if mask.any()]
    return torch.stack(shown).mean(dim=0).amax(dim=(1, 2))


def top_channels(attribution: Tensor, fraction: float) -> list[int]:
    """Return the channels with the greatest attribution, greatest first.

    Source: ``attribute.py``, where 10, 25, 50 and 75 % of 256 channels are 26, 64, 128 and 192.

    Args:
        attribution: ``(D,)``, signed.
        fraction: Share of the D channels; the number is rounded, a half upwards.

    Example:
        >>> top_channels(torch.tensor([0.1, 0.4, -0.9, 0.2]), fraction=0.5)
        [1, 3]
    """
    count = int(fraction * len(attribution) + 0.5)
    ranked = sorted(range(len(attribution)), key=lambda d: -float(attribution[d]))
    return ranked[:count]


def transferred_row(
    fresh: Tensor, background: Tensor, channels: Sequence[int], combine: str = 'add'
) -> Tensor:
    """Return the row of a new class, ``(D,)``.

    Source: dfki-av/AWT-for-CISS ``segmentation_module.py``, ``init_new_classifier``.

    Args:
        fresh: ``(D,)``, the row as it is drawn.
        background: ``(D,)``, the background's row.
        channels: Channels whose background weights are transferred.
        combine: 'add' the weights to the drawn ones, or 'replace' the drawn ones.

    Example:
        >>> fresh, background = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([1.0, 2.0, 3.0])
        >>> transferred_row(fresh, background, channels=[2]).tolist()
        [0.5, 0.5, 3.5]
    """
    row = fresh.clone()
    for d in channels:
        row[d] = background[d] + (fresh[d] if combine == 'add' else 0.0)
    return row
