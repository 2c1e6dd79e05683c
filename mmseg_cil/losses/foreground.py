"""Losses of a classifier whose outputs are foreground classes alone, each with a sigmoid.

The background has no output of its own: a pixel is background if no foreground class has a sigmoid
above 0.5. With a background logit that is constantly 0 this is the class of the greatest logit, so
a plain head whose row 0 is zero predicts the same.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.utils.step_context import StepContext

VOIDS = ('ignored', 'background')


def foreground_cross_entropy(
    logits: Tensor, labels: Tensor, first: int, pos_weight: float = 1.0
) -> Tensor:
    r"""Compute the binary cross-entropy of the outputs from ``first`` on, summed over outputs.

    .. math:: \sum_{c \ge first} \mathrm{softplus}(z_c)
              + [y \ge first] \, (w \, \mathrm{softplus}(-z_y) - \mathrm{softplus}(z_y))

    with the label y and the weight w of positives. A label below ``first`` is a negative of all of
    these outputs, and so is 255.

    Args:
        logits: ``(N, C, H, W)``. Half precision is computed in float32.
        labels: ``(N, H, W)`` integer model ids in ``[0, C)``, or 255.
        first: Model id of the first output.
        pos_weight: w.

    Returns:
        ``(N, H, W)``, at least float32; zeros with a graph if there is no output from ``first`` on.
    """
    return shared_foreground_cross_entropy(PixelLogits(logits, labels), first, pos_weight)


def shared_foreground_cross_entropy(
    pixels: PixelLogits, first: int, pos_weight: float = 1.0
) -> Tensor:
    """Compute :func:`foreground_cross_entropy` from logits of any size.

    Args:
        pixels: Logits over C outputs, and labels; ignored pixels are negatives.
        first: Model id of the first output.
        pos_weight: w.

    Returns:
        ``(N, H, W)``, at least float32; zeros with a graph if there is no output from ``first`` on.
    """
    assert pixels.labels is not None
    # Both are (N, H, W): the sum of softplus(z_c), and z_y.
    loss, own = pixels.sigmoids_of_labels(first)
    positive = (pixels.labels >= first) & ~pixels.ignored
    return loss + (pos_weight * softplus(-own) - softplus(own)).masked_fill(~positive, 0.0)


def sigmoid_agreement(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Compute the binary cross-entropy with the teacher's sigmoids as targets, a scalar.

    Args:
        logits: ``(N, F, H, W)``. Half precision is computed in float32.
        teacher_logits: ``(N, F, H, W)``.

    Returns:
        The mean over images and pixels of the sum over the F outputs, at least float32; a zero
        with a graph for F = 0.
    """
    outputs = at_least_float32(logits)
    targets = at_least_float32(teacher_logits).sigmoid().to(outputs)
    each = binary_cross_entropy_with_logits(outputs, targets, reduction='none')
    return each.sum(dim=1).mean()


def without_background(values: Tensor, dim: int = 1) -> Tensor:
    """Return logits or rows of the foreground classes relative to those of the background.

    The differences predict what the values predict, with a background that is constantly 0. Where
    the background's values are 0, as in a checkpoint that such a method left, they are the values
    themselves.

    Args:
        values: Any shape, the background first along ``dim``.
        dim: Dimension of the classes.
    """
    return values.narrow(dim, 1, values.shape[dim] - 1) - values.narrow(dim, 0, 1)


def check_foreground(step: StepContext, owner: object) -> None:
    """Refuse a step whose classes have no background, or that brings domains.

    Args:
        step: The step.
        owner: The part that refuses, for the message.

    Raises:
        InputError: See above.
    """
    said = type(owner).__name__
    if step.by_domain:
        raise InputError(
            f'{said}: this method learns the outputs of new classes alone, and a walk by domain '
            'brings none: take --method plop, rcil, lwf or ilt'
        )
    if not step.has_background:
        raise InputError(
            f'{said}: this method predicts the background where no other class is likely, and '
            'this protocol has no background: take --method mib, plop, rcil or vdfd'
        )
