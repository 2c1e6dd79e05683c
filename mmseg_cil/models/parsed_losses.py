"""The loss that trains the network, and terms that train something beside it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from mmengine.model import BaseModel
from torch import Tensor

#: In the name of a term that is minimised and has no gradient for the network.
APART = 'apart_'


def is_trained_on(name: str) -> bool:
    """Whether a logged value is a loss, or part of one, that something is trained on."""
    return 'loss' in name or APART in name


class ParsedLosses(BaseModel):
    """A model whose logged ``loss`` is what trains the network.

    Terms with ``apart_`` in their name are minimised with it, and logged under
    their own names only.
    """

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimised, and what is logged; see MMEngine's.

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
