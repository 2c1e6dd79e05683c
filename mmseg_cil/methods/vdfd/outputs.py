"""Which numbers of a segmentation network are the outputs that VDFD remembers.

A *node* is a class, or the background together with classes that came later; a
*cell* is a part of the image, or the pixels that are predicted as one class. The output of a
node and cell is a mean of the node's logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mmseg_cil.errors import InputError

#: What a config may call ``outputs``.
OUTPUTS = ('mean', 'predicted', 'grid', 'conditional')
BACKGROUNDS = ('keep', 'exclude', 'merge')
#: Whose outputs a step remembers.
NODES = ('new', 'all')

Nodes = tuple[tuple[int, ...], ...]


def nodes_of_step(
    class_steps: Sequence[int],
    step: int,
    last_remembered: int = -1,
    has_background: bool = True,
    background: str = 'keep',
    nodes: str = 'new',
) -> Nodes:
    """The nodes whose gradients are kept after a step.

    A step remembers the classes that it introduced (with those of earlier steps
    that did not train, and so remembered nothing), or all that have been seen, which is our
    choice. A step without new classes, as in a domain-incremental walk, remembers all.

    What becomes of the background is a design choice, for its meaning shrinks
    from step to step: 'keep' makes it a node of the step that introduced it, as
    any class; 'exclude' none; 'merge' makes it a node of every step, in the
    meaning that step 0 gave it: the log-sum-exp of background and all classes
    that came after step 0 (as MiB's unbiased losses do). Where no class is new
    nothing can have come out of the background, and 'merge' is 'keep'.

    Args:
        class_steps: For every output of the network, the step of its class.
        step: The step that has been trained.
        last_remembered: The last earlier step that kept gradients, -1 if none did.
        has_background: Output 0 is the background.
        background: One of :data:`BACKGROUNDS`.
        nodes: One of :data:`NODES`.

    Returns:
        Model ids of every node; more than one where they are merged. Empty if
        the background alone is new and excluded.

    Raises:
        InputError: ``background`` or ``nodes`` is unknown.
    """
    if nodes not in NODES:
        raise InputError(f'VDFD: nodes must be one of {NODES}, got {nodes!r}')
    if background not in BACKGROUNDS:
        raise InputError(f'VDFD: background must be one of {BACKGROUNDS}, got {background!r}')
    grows = any(class_step == step for class_step in class_steps) and step > 0
    every = not grows or nodes == 'all'
    fresh = [i for i, class_step in enumerate(class_steps) if every or class_step > last_remembered]
    found: list[tuple[int, ...]] = [(i,) for i in fresh]
    if has_background and background != 'keep':
        found = [node for node in found if node != (0,)]
    if has_background and background == 'merge':
        later = tuple(i for i, class_step in enumerate(class_steps) if class_step > class_steps[0])
        found.insert(0, (0, *later) if grows else (0,))
    return tuple(found)


def node_logits(logits: Tensor, nodes: Nodes) -> Tensor:
    """Logits of the nodes: of a class its own, of merged classes their log-sum-exp.

    Args:
        logits: ``(N, C, H, W)``.
        nodes: Model ids of each.

    Returns:
        ``(N, nodes, H, W)``.
    """
    return torch.stack(
        [
            logits[:, node[0]] if len(node) == 1 else logits[:, list(node)].logsumexp(dim=1)
            for node in nodes
        ],
        dim=1,
    )


def output_sums(
    logits: Tensor, nodes: Nodes, outputs: str = 'mean', grid: int = 2
) -> tuple[Tensor, Tensor]:
    """Sums over a batch whose quotients, over all batches, are the outputs.

    'mean': over all pixels of an image, then over images. That is the analogue of
    the official mean of a class's logit over a batch. 'predicted': over the pixels
    of all images where the node is predicted. 'grid': over each of ``grid x grid``
    parts of an image, then over images. 'conditional': for each class, over the pixels of
    all images where that class is predicted, so that the outputs are the matrix of the mean
    logits of k where j is predicted; our choice. Cells of a node stand next to each other.

    Sums of sums over any division of the images into batches are the same.

    Args:
        logits: ``(N, C, H, W)`` of the classifier, not upsampled: their mean
            differs from that of upsampled ones at borders only.
        nodes: Model ids of each node.
        outputs: One of :data:`OUTPUTS`.
        grid: Parts along each axis, for 'grid'.

    Returns:
        The sums ``(nodes * cells,)``, differentiable, and what they are divided
        by, of the same shape: images, or pixels that are predicted as the node or class.

    Raises:
        InputError: ``outputs`` is unknown.
    """
    if outputs not in OUTPUTS:
        raise InputError(f'VDFD: outputs must be one of {OUTPUTS}, got {outputs!r}')
    own = node_logits(logits, nodes)
    if outputs == 'predicted':
        predicted = logits.argmax(dim=1)
        inside = torch.stack(
            [torch.isin(predicted, torch.tensor(node, device=predicted.device)) for node in nodes],
            dim=1,
        )
        return (own * inside).sum(dim=(0, 2, 3)), inside.sum(dim=(0, 2, 3)).to(own)
    if outputs == 'conditional':
        predicted = functional.one_hot(logits.argmax(dim=1), logits.shape[1]).movedim(3, 1).to(own)
        matrix = torch.einsum('nkhw,njhw->kj', own, predicted)
        return matrix.flatten(), predicted.sum(dim=(0, 2, 3)).expand_as(matrix).flatten()
    cells = functional.adaptive_avg_pool2d(own, grid if outputs == 'grid' else 1)
    sums = cells.flatten(2).sum(dim=0).flatten()
    return sums, torch.full_like(sums.detach(), len(logits))


def cells_of(outputs: str, grid: int = 2, num_classes: int = 1) -> int:
    """Cells of every node.

    Args:
        outputs: One of :data:`OUTPUTS`.
        grid: Parts along each axis, for 'grid'.
        num_classes: Outputs of the network, for 'conditional'.
    """
    return {'grid': grid * grid, 'conditional': num_classes}.get(outputs, 1)
