"""The loss that trains the network, and terms that train other parameters."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from mmengine.model import BaseModel
from torch import Tensor

#: Part of the name of a term that is minimised and has no gradient for the network.
APART = 'apart_'


def is_trained_on(name: str) -> bool:
    """Return whether a logged value is a minimised loss, or part of one."""
    return 'loss' in name or APART in name


class ParsedLosses(BaseModel):
    """A model whose logged ``loss`` holds only the losses that train the network.

    Terms with ``apart_`` in their name are minimised too, but logged under
    their own names only.
    """

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the minimised total and the logged values, as MMEngine's ``parse_losses`` does.

        Args:
            losses: Losses and other scalars by name.
        """
        apart = {name: value.mean() for name, value in losses.items() if APART in name}
        total, logged = super().parse_losses(
            {name: value for name, value in losses.items() if name not in apart}
        )
        if apart:
            total = total + sum(apart.values())
            logged = OrderedDict[str, Any]({**logged, **apart})
        return total, logged
