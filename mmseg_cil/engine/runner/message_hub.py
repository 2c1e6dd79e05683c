"""Logged values that are fetched from the device only when they are read."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor

#: The most values kept on the device (half a kilobyte each), in case they are never read.
MOST_KEPT = 4096


class DeferredMessageHub(MessageHub):
    """MMEngine's message hub, except that a logged tensor does not make the CPU wait for it.

    MMEngine asks for the content of every scalar of every iteration at once, so
    that in each the CPU waits for the device as often as there are losses.
    Here a tensor is copied on its device, and all copies are fetched together
    before the history of any of them is read: by the logger at its interval, for
    ``resume.pth``, or by a hook of the user's at any time. The values read, and
    the order of the names, are those that MMEngine's own hub would have had.

    A history (``HistoryBuffer``) that a hook keeps for later iterations lacks the
    values that were not fetched since: the hook must ask for the history again.

    Args:
        name: Name of the instance.
    """

    def __init__(self, name: str, **contents: Any) -> None:
        super().__init__(name, **contents)
        self._kept: list[tuple[str, Tensor, int]] = []
        self._kept_keys: set[str] = set()

    def update_scalar(self, key: str, value: Any, count: int = 1, resumed: bool = True) -> None:
        """Log a value, as MMEngine's hub does; a tensor may change afterwards."""
        if not isinstance(value, Tensor):
            if key in self._kept_keys:
                self.fetch()
            super().update_scalar(key, value, count, resumed)
            return
        self._set_resumed_keys(key, resumed)
        assert value.numel() == 1 and isinstance(count, int)
        # The place of a history among the names is that of its first value.
        self._log_scalars.setdefault(key, HistoryBuffer())
        self._kept.append((key, value.detach().reshape(()).clone(), count))
        self._kept_keys.add(key)
        if len(self._kept) >= MOST_KEPT:
            self.fetch()

    def fetch(self) -> None:
        """Wait for the device, once for each number format, and write the kept values."""
        kept, self._kept, self._kept_keys = self._kept, [], set()
        for (key, _, count), value in zip(
            kept, _numbers([entry for _, entry, _ in kept]), strict=True
        ):
            history = self._log_scalars[key]
            if len(history.data[0]):
                history.update(value, count)
            else:
                # A history made of its first value has the type of that value.
                self._log_scalars[key] = HistoryBuffer([value], [count])

    @property
    def log_scalars(self) -> OrderedDict:
        """All histories, complete."""
        self.fetch()
        return super().log_scalars

    def get_scalar(self, key: str) -> HistoryBuffer:
        """Return the history of one name, after a fetch if this very history lacks values.

        The timer's own values thus cause no fetch.
        """
        if key in self._kept_keys:
            self.fetch()
        if key not in self._log_scalars:
            return super().get_scalar(key)
        return self._log_scalars[key]

    def state_dict(self) -> dict:
        """Return the hub's content for ``resume.pth``: tensors and plain types."""
        self.fetch()
        state: dict = super().state_dict()
        state['log_scalars'] = {
            key: {
                name: torch.from_numpy(values)
                for name, values in zip(('values', 'counts'), history.data, strict=True)
            }
            for key, history in state['log_scalars'].items()
        }
        state['runtime_info'] = {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in state['runtime_info'].items()
        }
        return state

    def load_state_dict(self, state_dict: MessageHub | dict) -> None:
        """Load the result of :meth:`state_dict`, of this hub or of MMEngine's own."""
        if isinstance(state_dict, dict) and 'log_scalars' in state_dict:
            state_dict = {
                **state_dict,
                'log_scalars': {
                    key: HistoryBuffer(history['values'].numpy(), history['counts'].numpy())
                    if isinstance(history, dict)
                    else history
                    for key, history in state_dict['log_scalars'].items()
                },
            }
        super().load_state_dict(state_dict)


# Code that asks MMEngine for the current hub, as the optimizer does, gets the Runner's hub.
DeferredMessageHub._instance_dict = MessageHub._instance_dict


def _numbers(scalars: list[Tensor]) -> list[int | float | bool]:
    """Return ``item()`` of each scalar, with one copy for each device and number format."""
    places: dict[tuple, list[int]] = defaultdict(list)
    for place, scalar in enumerate(scalars):
        places[scalar.device, scalar.dtype].append(place)
    numbers: dict[int, int | float | bool] = {}
    for same in places.values():
        numbers.update(
            zip(same, torch.stack([scalars[place] for place in same]).tolist(), strict=True)
        )
    return [numbers[place] for place in range(len(scalars))]
