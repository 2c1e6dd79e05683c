"""Attributions of the background's logit at the pixels of new classes, over a step's images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from mmengine.dist import all_reduce
from mmseg.models.decode_heads import PointHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn
from torch.nn import functional

from mmseg_cil.contracts import DataBatch
from mmseg_cil.hooks.step_images import prepared
from mmseg_cil.losses.cells import at_cells
from mmseg_cil.models.heads import auxiliary_heads, classifier_of, decode_heads
from mmseg_cil.models.network_output import run_heads
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder

#: Side of the square grid to which attributions are brought before images are averaged: the map
#: of the official network, 512 pixels at stride 16.
GRID = 32


def class_attributions(
    model: IncrementalEncoderDecoder, batches: Iterable[DataBatch]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each head's attributions at the cells of each new class, summed over images.

    The embeddings are those of the last step's network, in evaluation mode. Labels are resized to
    the embedding by nearest neighbour. A larger map than :data:`GRID` is averaged over the cells of
    the grid, a smaller one repeated in them (our choice). Sums are in float64 and over all
    processes, so the split into batches and processes affects only rounding.

    Args:
        model: Segmentor at a step with K new classes, after a step that trained.
        batches: This process's collated samples with ``gt_sem_seg`` in model ids. With several
            processes every process must call this function, even without a batch.

    Returns:
        For every head by name: sums ``(K, D, GRID, GRID)`` and, for each new class, the number of
        images ``(K,)`` that show it, float64.
    """
    device = next(model.parameters()).device
    network = model.previous_network().network.to(device)
    heads = {**decode_heads(network), **auxiliary_heads(network)}
    num_old, num_new = model.step.num_old, model.step.num_new
    totals = {}
    for name, head in heads.items():
        if not isinstance(head, PointHead):
            channels = classifier_of(head).weight.shape[1]
            # (K, D, GRID, GRID) and (K,).
            sums = torch.zeros(num_new, channels, GRID, GRID, dtype=torch.float64, device=device)
            totals[name] = sums, torch.zeros(num_new, dtype=torch.float64, device=device)
    with torch.no_grad():
        # For each size of the images: the embedding (1, D, h, w) of an image of zeros, by head.
        baselines: dict[tuple[int, ...], dict[str, Tensor]] = {}
        for batch in batches:
            inputs, labels = prepared(model, batch)  # (N, 3, H, W), (N, 1, H, W)
            shape = tuple(inputs.shape[1:])
            if shape not in baselines:
                baselines[shape] = embeddings(network, torch.zeros_like(inputs[:1]))
            for name, embedding in embeddings(network, inputs).items():
                maps = attribution_maps(
                    heads[name],
                    embedding - baselines[shape][name],
                    (int(labels.shape[2]), int(labels.shape[3])),
                )
                _add(totals[name], maps, labels, num_old)
    for sums, images in totals.values():
        all_reduce(sums)
        all_reduce(images)
    return totals


def embeddings(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Return the input of each head's classifier, float32 ``(N, D, h, w)``, by the head's name.

    Args:
        network: A segmentor in evaluation mode.
        inputs: ``(N, 3, H, W)``, normalised.
    """
    features = network.extract_feat(inputs)  # type: ignore[operator]
    found = {}
    for name, tap in run_heads(network, features).items():
        assert tap.embedding is not None
        found[name] = tap.embedding.float()
    return found


def attribution_maps(head: BaseDecodeHead, change: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the integrated gradients of the summed background logit, ``(N, D, h, w)``.

    :func:`~mmseg_cil.methods.awt.reference.attribution_map` tells the formula.

    Args:
        head: Head whose first output is the background.
        change: ``(N, D, h, w)``, the embedding less that of an image of zeros.
        size: Height and width to which the logits are upsampled.
    """
    # (D, 1, 1): the background's weights.
    row = classifier_of(head).weight[0].reshape(-1, 1, 1).to(change)
    # (h,) and (w,): sum of the weights of a row or column of cells in all pixels.
    tall, wide = (
        upsampling_mass(int(length), target, bool(head.align_corners))
        for length, target in zip(change.shape[2:], size, strict=True)
    )
    # (N, D, h, w) * (D, 1, 1) * (h, w).
    return change * row * torch.outer(tall, wide).to(change)


def upsampling_mass(length: int, size: int, align_corners: bool) -> Tensor:
    """Return, for each of ``length`` cells, the sum of its weights in ``size`` pixels, float64.

    Bilinear upsampling is linear upsampling along both axes, so a cell of a map has the product of
    two such sums.
    """
    # (1, length, length): a cell of value 1 for each channel.
    cells = torch.eye(length, dtype=torch.float64)[None]
    # (1, length, size): weights of the cell of each channel in the pixels.
    spread: Tensor = functional.interpolate(
        cells, size=size, mode='linear', align_corners=align_corners
    )
    return spread[0].sum(dim=1)


def _add(total: tuple[Tensor, Tensor], maps: Tensor, labels: Tensor, num_old: int) -> None:
    """Add the maps ``(N, D, h, w)`` of some images to the sums of the classes that they show."""
    sums, images = total
    small = at_cells(labels.squeeze(1), maps.shape[2:]).unsqueeze(1)  # (N, 1, h, w)
    for place in range(len(images)):
        cells = small == num_old + place  # (N, 1, h, w) bool
        shown = cells.flatten(1).any(dim=1)  # (N,) bool: images that show the class
        if not shown.any():
            continue
        images[place] += shown.sum()
        # (1, D, h, w): summed over images.
        masked = (maps * cells).sum(dim=0, keepdim=True, dtype=torch.float64)
        sums[place] += functional.adaptive_avg_pool2d(masked, GRID)[0]


def chosen_channels(
    sums: Tensor, images: Tensor, fraction: float, classes: str = 'each', pooling: str = 'max'
) -> Tensor:
    """Return the channels whose background weights each new class gets, bool ``(K, D)``.

    A choice that no image was seen for is empty.

    Args:
        sums: ``(K, D, GRID, GRID)``, attributions summed over images. A mean over images has the
            same order of channels.
        images: ``(K,)``, number of images that show each class.
        fraction: Share of the D channels; the number is rounded, a half upwards.
        classes: See :class:`~mmseg_cil.methods.awt.rows.AttributedRows`.
        pooling: See there.
    """
    # On the CPU, where all of this is reproducible.
    sums, images = sums.cpu(), images.cpu()
    if classes == 'together':
        sums, images = (value.sum(dim=0, keepdim=True).expand_as(value) for value in (sums, images))
    elif classes == 'accumulated':
        sums, images = sums.cumsum(dim=0), images.cumsum(dim=0)
    # (K, D, GRID * GRID), then (K, D).
    values = sums.flatten(2)
    values = values.amax(dim=2) if pooling == 'max' else values.mean(dim=2)
    count = int(fraction * values.shape[1] + 0.5)
    # (K, count): numbers of the channels with the greatest values.
    ranked = values.argsort(dim=1, descending=True, stable=True)[:, :count]
    chosen = torch.zeros_like(values, dtype=torch.bool).scatter_(1, ranked, True)  # (K, D)
    return chosen & (images > 0)[:, None]


def with_transferred(weight: Tensor, chosen: Tensor, combine: str = 'add') -> Tensor:
    """Return the rows of all classes with the background's weights on the chosen channels.

    Args:
        weight: ``(C, D, ...)``, the background first, K new classes last.
        chosen: ``(K, D)`` bool, on any device.
        combine: See :class:`~mmseg_cil.methods.awt.rows.AttributedRows`.
    """
    num_old = len(weight) - len(chosen)
    fresh, background = weight[num_old:], weight[:1]  # (K, D, ...), (1, D, ...)
    # (K, D, 1, ...), with as many axes as the weight.
    where = chosen.to(weight.device).reshape(*chosen.shape, *[1] * (weight.dim() - 2))
    rows = background + fresh if combine == 'add' else background.expand_as(fresh)
    return torch.cat([weight[:num_old], torch.where(where, rows, fresh)])


def transfer(model: IncrementalEncoderDecoder, chosen: Mapping[str, Tensor], combine: str) -> None:
    """Transfer the background's weights to the new rows of a segmentor's heads, in place.

    Args:
        model: Segmentor at a step with K new classes.
        chosen: ``(K, D)`` bool for every head by name.
        combine: See :class:`~mmseg_cil.methods.awt.rows.AttributedRows`.
    """
    with torch.no_grad():
        for name, channels in chosen.items():
            weight = classifier_of(model.heads[name]).weight
            weight.copy_(with_transferred(weight, channels, combine))
    if model.self_supervision is not None:
        # The rows for rotated images are copies from before the transfer, so they are made again.
        model.self_supervision.begin(model.heads)
