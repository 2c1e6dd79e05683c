"""A linear classifier of a frozen network's embedding, trained anew."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from mmseg.models.decode_heads import IterativeDecodeHead
from torch import Tensor, nn
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.losses.cells import at_cells
from mmseg_cil.models.heads import classifier_of, decode_heads, main_head

#: Share of the mean deviation below which no channel's deviation is taken to lie.
_LEAST = 0.01


def probed_classifier(network: nn.Module) -> nn.Conv2d:
    """Return the convolution that a probe replaces: the last layer of a segmentor.

    Raises:
        InputError: The network ends with something else than a 1x1 classifier.
    """
    name, head = main_head(network)
    last = list(decode_heads(network))[-1]
    if isinstance(head, IterativeDecodeHead) or name != last:
        raise InputError(
            f'the network ends with {type(decode_heads(network)[last]).__name__}, which is no '
            'linear classifier of an embedding, so it cannot be probed'
        )
    classifier = classifier_of(head)
    if tuple(classifier.kernel_size) != (1, 1):
        raise InputError(
            f'{name}.conv_seg has a kernel of {tuple(classifier.kernel_size)}, and the probe is a '
            '1x1 classifier: it would be another kind of network'
        )
    return classifier


def fit_probe(
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    iterations: int,
    lr: float,
    ignore_index: int = 255,
) -> tuple[Tensor, Tensor]:
    """Train a linear classifier of cells by cross-entropy, and return its rows and biases.

    Labels are reduced to the embedding by nearest neighbour, so that no operation is left whose
    result differs from run to run on a GPU. Channels are standardised by the first batch, which the
    rows that are returned take back. Rows begin as zeros; Adam trains them with a rate that falls
    like (1 - i / n) to the power 0.9. (All choices are ours.)

    Args:
        batches: One batch an iteration: embeddings ``(N, D, h, w)``, labels ``(N, 1, H, W)``.
        num_classes: C.
        iterations: Number of batches.
        lr: Learning rate of the first iteration.
        ignore_index: Label of pixels that do not count.

    Returns:
        Weight ``(C, D)`` and bias ``(C,)``.
    """
    rows: list[Tensor] = []
    for iteration, (embedding, labels) in enumerate(batches):
        cells = embedding.detach().float().movedim(1, -1).flatten(0, -2)
        targets = at_cells(labels.squeeze(1), embedding.shape[2:]).flatten()
        if not rows:
            mean, deviation = cells.mean(dim=0), cells.std(dim=0, correction=0)
            deviation = deviation.clamp_min(_LEAST * float(deviation.mean()) or 1.0)
            rows = [cells.new_zeros(num_classes, cells.shape[1]), cells.new_zeros(num_classes)]
            optimizer = torch.optim.Adam([row.requires_grad_() for row in rows], lr=lr)
        for group in optimizer.param_groups:
            group['lr'] = lr * (1 - iteration / iterations) ** 0.9
        logits = functional.linear((cells - mean) / deviation, *rows)
        loss = functional.cross_entropy(
            logits, targets, ignore_index=ignore_index, reduction='sum'
        ) / (targets != ignore_index).sum().clamp_min(1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weight, bias = (row.detach() for row in rows)
    weight = weight / deviation
    return weight, bias - weight @ mean
