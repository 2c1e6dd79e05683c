"""Class-similarity weighted distillation in the form that training uses.

No enlarged embedding exists, and enlarged logits exist for a few images at a time. The formulas
are in ``reference``.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.pixel_statistics import Grid
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.reminder.reference import FLOOR, similarity

#: Number of enlarged logits of one pass.
_BLOCK = {'cpu': 2**22, 'other': 2**26}


def embedding_sums(embedding: Tensor, labels: Tensor, classes: range) -> Tensor:
    """Return the sums behind :func:`~mmseg_cil.methods.reminder.reference.mean_embeddings`.

    Bilinear enlarging is a product with a matrix along each axis. The transposed matrices bring
    the pixels of a class to the embedding's size, which is far less than to enlarge D channels.

    Args:
        embedding: ``(N, D, h, w)``, float32 or float64; no gradient is computed.
        labels: ``(N, H, W)`` model ids.
        classes: K model ids.

    Returns:
        ``(K, D + 1)``: sums of the enlarged embedding over the pixels of each class and, in the
        last column, the numbers of pixels.
    """
    with torch.no_grad(), torch.autocast(embedding.device.type, enabled=False):
        rows, columns = (
            _enlarging(int(length), int(size), embedding)
            for length, size in zip(embedding.shape[2:], labels.shape[1:], strict=True)
        )
        # (N * h * w, D)
        cells = embedding.movedim(1, -1).flatten(0, 2)
        sums = []
        for class_id in classes:
            pixels = (labels == class_id).to(embedding.dtype)
            # (N, h, w): the weight of each cell in the sum over the pixels of the class.
            weights = rows.T @ pixels @ columns
            sums.append(torch.cat([weights.flatten() @ cells, pixels.sum()[None]]))
        return torch.stack(sums)


def _enlarging(length: int, size: int, like: Tensor) -> Tensor:
    """Return the matrix ``(size, length)`` that enlarges an axis, with aligned corners."""
    cells = torch.eye(length, dtype=like.dtype, device=like.device)[None]
    spread: Tensor = functional.interpolate(cells, size=size, mode='linear', align_corners=True)
    return spread[0].T


def shared_similarity_weighted_distillation(
    pixels: PixelLogits,
    embedding: Tensor,
    teacher_logits: Tensor,
    old_prototypes: Tensor,
    delta: float = 0.0,
    temperature: float = 3.0,
) -> Tensor:
    """Compute the distillation of a batch that is spread over processes, a scalar.

    See :func:`~mmseg_cil.methods.reminder.reference.similarity_weighted_distillation`. The mean
    embeddings of the new classes and the number of their pixels are those of all processes'
    images together, so that the mean of the processes' losses, which
    ``DistributedDataParallel`` trains, is the loss of the whole batch.

    Args:
        pixels: The student's logits over C classes, and the labels. Generated images have no
            label, so no pixel of theirs counts.
        embedding: ``(N, D, h, w)``, the input of the student's classifier, which gets no gradient.
        teacher_logits: ``(N, O, h, w)``, O < C, of the height and width of the student's.
        old_prototypes: ``(O, D)``.
        delta: See :func:`~mmseg_cil.methods.reminder.reference.similarity`.
        temperature: T.

    Returns:
        At least float32; 0, with a graph, if no process has a pixel of a new class.

    Raises:
        InputError: Student and teacher differ in height or width.
    """
    assert pixels.labels is not None
    if pixels.logits.shape[2:] != teacher_logits.shape[2:]:
        raise InputError(
            f'logits of student {tuple(pixels.logits.shape)} and teacher '
            f'{tuple(teacher_logits.shape)} differ in height or width: compare outputs of the same '
            'network for the same images'
        )
    num_old = teacher_logits.shape[1]
    labels = pixels.labels.masked_fill(pixels.ignored, -1)
    new = range(num_old, pixels.num_classes)
    sums = embedding_sums(at_least_float32(embedding.detach()), labels, new)
    all_reduce(sums)
    count = sums[:, -1].sum().clamp(min=1)
    with torch.autocast(sums.device.type, enabled=False):
        means = sums[:, :-1] / sums[:, -1:].clamp(min=1)
        shares = similarity(means, old_prototypes.to(means), delta)
    total: Tensor = _Distillation.apply(
        pixels.precise[:, :num_old],
        at_least_float32(teacher_logits.detach()),
        labels - num_old,
        shares,
        pixels.grid,
        temperature,
    )
    return total * (get_world_size() / count)


class _Distillation(torch.autograd.Function):
    """The sum of the loss over all pixels of new classes, and its gradient in the same pass."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        places: Tensor,
        shares: Tensor,
        grid: Grid,
        temperature: float,
    ) -> Tensor:
        limit = _BLOCK.get(student.device.type, _BLOCK['other'])
        images = max(1, limit // (student.shape[1] * grid.size[0] * grid.size[1]))
        total = student.new_zeros(())
        gradients: list[Tensor] = []
        for own, other, place in zip(
            student.split(images), teacher.split(images), places.split(images), strict=True
        ):
            logs = (grid.enlarge(own) / temperature).log_softmax(dim=1)
            # (n, O, H, W): the targets; zero where no new class is.
            target = (grid.enlarge(other) / temperature).softmax(dim=1)
            weights = functional.embedding(place.clamp(0, len(shares) - 1), shares)
            target.mul_(weights.movedim(-1, 1)).add_(FLOOR).mul_((place >= 0).unsqueeze(1))
            total = total - (target * logs).sum()
            # The derivative by the logits, without the factor T.
            each = logs.exp_().mul_(target.sum(dim=1, keepdim=True)).sub_(target)
            gradients.append(grid.shrink(each, own.shape[2:]))
        ctx.save_for_backward(torch.cat(gradients))
        ctx.temperature = temperature
        return total * temperature**2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (of_student,) = ctx.saved_tensors
        return of_student * (gradient * ctx.temperature), None, None, None, None, None
