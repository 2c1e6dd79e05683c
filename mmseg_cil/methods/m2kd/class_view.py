"""Views of a network's logits without the classes that an earlier snapshot does not teach."""

from __future__ import annotations

import torch
from torch import Tensor

from mmseg_cil.losses.pixel_logits import PixelLogits


def class_view(logits: Tensor, start: int, background: bool = True) -> Tensor:
    """Return the logits of the background and of the classes from ``start`` on.

    Args:
        logits: ``(N, C, H, W)``.
        start: The first class, in ``[0, C)``.
        background: Class 0 is the background and stays.

    Returns:
        ``(N, C', H, W)``: all logits if no class is left out (``start`` is 0, or 1 with a
        background); a copy if classes between the background and ``start`` are left out.
    """
    if start <= int(background):
        return logits
    later = logits[:, start:]
    return torch.cat([logits[:, :1], later], dim=1) if background else later


class ClassView(PixelLogits):
    """A :class:`PixelLogits` without the classes between the background and ``start``.

    Log-sum-exps are taken from those of ``whole``, which all views share. Labels are those
    of ``whole`` too and serve only to tell which pixels are ignored: as ids, labels are
    places among the classes of ``whole``, not among those of the view.

    Args:
        whole: The logits of all classes, with cuts at 1 and ``start`` and
            wherever the view's log-sum-exps begin or end.
        start: See :func:`class_view`.
        background: See :func:`class_view`.
    """

    def __init__(self, whole: PixelLogits, start: int, background: bool = True) -> None:
        super().__init__(
            class_view(whole.logits, start, background),
            whole.labels,
            size=whole.grid.size,
            align_corners=whole.grid.align_corners,
            ignore_index=whole.ignore_index,
            replayed=whole.replayed,
        )
        self._whole = whole
        self._start = start
        self._background = background

    @property
    def own(self) -> Tensor:
        """See :attr:`PixelLogits.own`; taken from the whole, as the view may lack the label."""
        return self._whole.own

    def logsumexp(self, start: int = 0, stop: int | None = None) -> Tensor:
        """See :meth:`PixelLogits.logsumexp`; ``start`` and ``stop`` are places in the view."""
        stop = self.num_classes if stop is None else stop
        left_out = self._whole.num_classes - self.num_classes
        if not self._background or start > 0 or not left_out:
            return self._whole.logsumexp(start + left_out, stop + left_out)
        background = self._whole.logsumexp(0, 1)
        if stop == 1:
            return background
        return torch.logaddexp(background, self._whole.logsumexp(1 + left_out, stop + left_out))

    def tempered(self, temperature: float) -> PixelLogits:
        """See :meth:`PixelLogits.tempered`; all views share the tempered whole."""
        if temperature == 1.0:
            return self
        return ClassView(self._whole.tempered(temperature), self._start, self._background)
