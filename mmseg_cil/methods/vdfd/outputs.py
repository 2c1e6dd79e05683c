"""The outputs of a segmentation network that VDFD remembers.

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

#: Values of the option ``outputs``.
OUTPUTS = ('mean', 'predicted', 'grid', 'conditional')
BACKGROUNDS = ('keep', 'exclude', 'merge')
#: Choices of the nodes that a step remembers.
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
    """Return the nodes whose gradients are kept after a step.

    With ``nodes='new'`` a step remembers the classes that it introduced, and those of earlier
    steps that did not train and thus remembered nothing. With 'all', our choice, a step
    remembers all classes seen. A step without new classes, as in a domain-incremental walk,
    remembers all classes.

    The treatment of the background is a design choice, because the meaning of the background
    shrinks from step to step. 'keep' makes the background a node of the step that introduced
    it, as any class. 'exclude' makes it no node. 'merge' makes it a node of every step, in the
    meaning that step 0 gave it: the log-sum-exp of background and all classes
    that came after step 0 (as MiB's unbiased losses do). If no class is new,
    no class can have left the background, and 'merge' is 'keep'.

    Args:
        class_steps: For every output of the network, the step of its class.
        step: The step that has been trained.
        last_remembered: The last earlier step that kept gradients, -1 if no step did.
        has_background: Output 0 is the background.
        background: One of :data:`BACKGROUNDS`.
        nodes: One of :data:`NODES`.

    Returns:
        Model ids of every node; several ids if classes are merged. Empty if
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
    """Return the logits of the nodes: a class's own logit, or merged classes' log-sum-exp.

    Args:
        logits: ``(N, C, H, W)``.
        nodes: Model ids of each node.

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
    """Return sums over a batch and their divisors; totals over all batches give the outputs.

    An output is the quotient of both totals, a mean of a node's logits. 'mean': over all
    pixels of an image, then over images, the analogue of the official mean of a class's
    logit over a batch. 'predicted': over the pixels of all images at which the node is
    predicted. 'grid': over each of ``grid x grid`` parts of an image, then over images.
    'conditional': for each class, over the pixels of all images at which that class is
    predicted, so that the outputs are the matrix of the mean logits of node k at pixels
    predicted as class j; our choice. Cells of a node stand next to each other.

    The totals do not depend on the division of the images into batches.

    Args:
        logits: ``(N, C, H, W)`` of the classifier, not upsampled: the mean of these logits
            differs from that of upsampled logits at borders only.
        nodes: Model ids of each node.
        outputs: One of :data:`OUTPUTS`.
        grid: Number of parts along each axis, for 'grid'.

    Returns:
        The sums ``(nodes * cells,)``, differentiable, and their divisors, of the same
        shape: numbers of images, or of pixels that are predicted as the node or class.

    Raises:
        InputError: ``outputs`` is unknown.
    """
    if outputs not in OUTPUTS:
        raise InputError(f'VDFD: outputs must be one of {OUTPUTS}, got {outputs!r}')
    own = node_logits(logits, nodes)  # (N, nodes, H, W)
    if outputs == 'predicted':
        predicted = logits.argmax(dim=1)  # (N, H, W)
        # (N, nodes, H, W) bool: pixels at which the node is predicted.
        inside = torch.stack(
            [torch.isin(predicted, torch.tensor(node, device=predicted.device)) for node in nodes],
            dim=1,
        )
        # Both are (nodes,).
        return (own * inside).sum(dim=(0, 2, 3)), inside.sum(dim=(0, 2, 3)).to(own)
    if outputs == 'conditional':
        # (N, C, H, W): 1 at the predicted class, 0 at the others.
        predicted = functional.one_hot(logits.argmax(dim=1), logits.shape[1]).movedim(3, 1).to(own)
        # (nodes, C): sum of the logits of node k at the pixels predicted as class j.
        matrix = torch.einsum('nkhw,njhw->kj', own, predicted)
        return matrix.flatten(), predicted.sum(dim=(0, 2, 3)).expand_as(matrix).flatten()
    # (N, nodes, grid, grid), or (N, nodes, 1, 1) for 'mean'.
    cells = functional.adaptive_avg_pool2d(own, grid if outputs == 'grid' else 1)
    sums = cells.flatten(2).sum(dim=0).flatten()  # (nodes * cells,)
    return sums, torch.full_like(sums.detach(), len(logits))


def cells_of(outputs: str, grid: int = 2, num_classes: int = 1) -> int:
    """Return the number of cells of every node.

    Args:
        outputs: One of :data:`OUTPUTS`.
        grid: Number of parts along each axis, for 'grid'.
        num_classes: Number of outputs of the network, for 'conditional'.
    """
    return {'grid': grid * grid, 'conditional': num_classes}.get(outputs, 1)
