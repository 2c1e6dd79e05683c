"""Cross-entropy over a step's classes: to be read and tested against, not trained with.

Stored numbers of the official code, where there is some, pin these forms, and tests compare the
forms that train with them: those are in ``step_classes_cross_entropy``.
"""

from __future__ import annotations

from torch import Tensor

from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.vdfd.step_classes_cross_entropy import left_out_outputs


def step_classes_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    num_hidden: int,
    ignore_index: int = 255,
    num_classes: int | None = None,
) -> Tensor:
    r"""Cross-entropy per pixel whose softmax is over the background and the new classes.

    .. math:: \log \Big( e^{z_0} + \sum_{c \ge \mathrm{num\_hidden}} e^{z_c} \Big) - z_y

    Logits of old classes are no part of it, so it neither lowers nor raises them: a step
    whose labels call old classes background says nothing about them. Where classes have
    outputs for several turns of the image, the sum is over the background and the new
    classes of all turns.

    Source: XiaorongLi-95/VDFD ``class_incremental``, option LA, takes the cross-entropy over
    the logits of the current task. That the background belongs to every task is our choice,
    for segmentation.

    Args:
        logits: ``(N, C, H, W)`` over all classes seen, background at 0; with self-supervision
            ``(N, 4 C, H, W)``, the image's own turn first. Half precision is computed in
            float32.
        labels: ``(N, H, W)`` integer model ids in ``[0, C)``, or ``ignore_index``.
        num_hidden: Classes that hide in the background, itself included. With
            0 or 1 this is the ordinary cross-entropy.
        ignore_index: Label whose pixels have zero loss.
        num_classes: C, where there are more outputs than that.

    Returns:
        ``(N, H, W)`` loss per pixel, in nats, at least float32; 0 where the label is an old
        class other than the background.
    """
    logits = at_least_float32(logits)
    count = logits.shape[1]
    old = {
        one for part in left_out_outputs(num_hidden, count, num_classes or count) for one in part
    }
    kept = logits[:, [one for one in range(count) if one not in old]]
    left_out = (labels == ignore_index) | ((labels > 0) & (labels < num_hidden))
    own = logits.gather(1, labels.masked_fill(left_out, 0).unsqueeze(1).long()).squeeze(1)
    return (kept.logsumexp(dim=1) - own).masked_fill(left_out, 0.0)
