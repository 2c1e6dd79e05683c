"""The prototypes of classes, cumulative over iterations and steps, and the file of a step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.methods.sdr.terms import class_means
from mmseg_cil.utils.atomic import atomic_write
from mmseg_cil.utils.finite import named, not_finite
from mmseg_cil.utils.weights_files import NotDataError, read_weights

FILE_NAME = 'prototypes.pth'
FORMAT = 1


@dataclass
class Prototypes:
    """The mean features of each class over all cells of all iterations so far.

    Attributes:
        means: ``(C, D)`` float32; 0 for a class that was never seen.
        counts: ``(C,)`` int64, the number of cells of each mean.
    """

    means: Tensor
    counts: Tensor

    @classmethod
    def empty(cls, num_classes: int, channels: int, device: torch.device | str) -> Prototypes:
        """Return prototypes of classes of which no cell was seen."""
        means = torch.zeros(num_classes, channels, device=device)
        return cls(means, torch.zeros(num_classes, dtype=torch.int64, device=device))

    def add(self, sums: Tensor, counts: Tensor, chosen: Tensor) -> None:
        """Add cells to the means, in place, without waiting for the device.

        Args:
            sums: ``(C, D)`` sums of features over the cells of each class, of all processes.
            counts: ``(C,)`` whole numbers of these cells.
            chosen: ``(C,)`` bool, the classes whose cells are added.
        """
        more = counts.long().masked_fill(~chosen, 0)
        self.counts += more
        # How far a mean moves: more accurate than a quotient of sums that grow without end.
        share = more / self.counts.clamp(min=1)
        distance = class_means(sums.detach().float(), counts) - self.means
        self.means += share.float().unsqueeze(1) * distance.masked_fill(~chosen.unsqueeze(1), 0.0)

    def grown(self, num_classes: int) -> Prototypes:
        """Return the prototypes with empty ones for further classes behind them.

        Raises:
            InputError: There are more prototypes than classes.
        """
        missing = num_classes - len(self.means)
        if missing < 0:
            raise InputError(
                f'there are prototypes of {len(self.means)} classes, and the step has '
                f'{num_classes}: they are not those of the step before'
            )
        means = torch.cat([self.means, self.means.new_zeros(missing, self.means.shape[1])])
        return Prototypes(means, torch.cat([self.counts, self.counts.new_zeros(missing)]))

    def to(self, device: torch.device | str) -> Prototypes:
        """Return the prototypes on a device."""
        return Prototypes(self.means.to(device), self.counts.to(device))

    def state(self) -> dict[str, Tensor]:
        """Return the prototypes as plain tensors on the CPU, for a state of training."""
        return {'means': self.means.cpu().clone(), 'counts': self.counts.cpu().clone()}

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        """Write the prototypes atomically, as plain types and tensors.

        Args:
            path: The file.
            settings: Settings with which they were made.
        """
        content = dict(format=FORMAT, settings=settings, **self.state())
        atomic_write(path, lambda file: torch.save(content, file))

    @classmethod
    def load(cls, path: Path) -> tuple[Prototypes, dict[str, Any]]:
        """Read the prototypes and their settings, as :meth:`save` wrote them, onto the CPU.

        Raises:
            InputError: The file is missing, damaged or of another format.
        """
        if not path.is_file():
            raise InputError(
                f'{path} does not exist: the prototypes of that step were not kept. Run the step '
                'with a method that has a PrototypesHook, or take it over with --start-from, which '
                'makes them'
            )
        try:
            content = read_weights(path)
            if content['format'] != FORMAT:
                raise ValueError('another format')
            if bad := not_finite(content):
                raise ValueError(f'{named(bad)} hold values that are not finite')
            found = cls(content['means'], content['counts'])
            if found.means.dim() != 2 or len(found.means) != len(found.counts):
                raise ValueError('tensors that do not belong together')
            settings: dict[str, Any] = content['settings']
        except NotDataError:
            raise
        except Exception as error:
            raise InputError(
                f'{path} cannot be read ({error}): the file is damaged or of another version; '
                'delete the folder of that step and run it again'
            ) from error
        return found, settings
