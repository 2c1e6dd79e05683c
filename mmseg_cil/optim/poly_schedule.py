"""The learning rate schedule of the papers, which ends above zero."""

from __future__ import annotations

from typing import Any

from mmengine.optim import PolyLR

from mmseg_cil.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class PaperPolyLR(PolyLR):
    """MMEngine's ``PolyLR``, but reaching ``eta_min`` only one iteration after the last.

    Iteration i of n has the rate ``lr * (1 - i / n)**power``, for i from 0 to n - 1, as in MiB,
    PLOP and RCIL (``utils/scheduler.py``). MMEngine's ``PolyLR`` divides by n - 1, so that the
    last iteration has the rate ``eta_min`` and, with ``eta_min`` 0, learns nothing. Arguments are
    those of ``PolyLR``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.total_iters = self.end - self.begin
