"""The papers' learning rate, which ends above zero."""

from __future__ import annotations

from typing import Any

from mmengine.optim import PolyLR

from mmseg_cil.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class PaperPolyLR(PolyLR):
    """MMEngine's ``PolyLR`` that would be at ``eta_min`` one iteration after its last.

    Iteration i of n has the rate ``lr * (1 - i / n)**power``, for i from 0 to n - 1, as MiB,
    PLOP and RCIL have it (``utils/scheduler.py``). MMEngine's divides by n - 1, so that its last
    iteration has the rate ``eta_min`` and, at 0, learns nothing. Arguments are those of
    ``PolyLR``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.total_iters = self.end - self.begin
