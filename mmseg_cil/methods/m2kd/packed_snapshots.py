"""All snapshots of a walk in one file, from which each is rebuilt bit by bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.methods.m2kd.weight_owners import Owners, bits_needed, pack_owners, unpack_owners
from mmseg_cil.registry import SNAPSHOT_READERS
from mmseg_cil.utils.atomic import atomic_write
from mmseg_cil.utils.weights_files import NotDataError, read_weights

FILE_NAME = 'snapshots.pth'
FORMAT = 1


class SnapshotBytes(NamedTuple):
    """Sizes of a snapshot.

    Attributes:
        stored: Bytes of the snapshot's own values in the file, weights and all other entries.
        owners: Bytes of the snapshot's share of the owners, the same for every snapshot.
        dense: Bytes of the snapshot's whole network without packing.
        kept: Number of prunable weights that are not pruned in the snapshot.
        prunable: Number of weights that can be pruned.
    """

    stored: int
    owners: int
    dense: int
    kept: int
    prunable: int


@dataclass(frozen=True)
class PackedSnapshots:
    """Snapshots of a growing network, each stored as its difference from the one before.

    For a prunable layer the k-th snapshot stores the values of the weights that it owns. The
    snapshot also stores the weights of earlier owners whose bits have changed, with a mask of
    one bit per weight of earlier owners (no mask if none or all have changed). M2KD goes on
    training all weights, so the weights of earlier owners usually change; if these are
    frozen, as in PackNet, a snapshot costs only its own weights. All other entries (norm
    statistics, biases, classifiers, ...) are stored if they have changed.

    Attributes:
        steps: The step of each snapshot.
        owners: Owners of every prunable weight.
        entries: The stored entries of each snapshot, by name.
    """

    steps: tuple[int, ...] = ()
    owners: Owners = field(default_factory=dict)
    entries: tuple[dict[str, Any], ...] = ()

    def extended(
        self, step: int, state: Mapping[str, Tensor], owners: Mapping[str, Tensor]
    ) -> PackedSnapshots:
        """Return these snapshots with one more.

        Args:
            step: Step of the new snapshot.
            state: State dict of a plain network, zero where no snapshot owns a weight.
            owners: Owners with those of the new snapshot, which extend the current owners.

        Raises:
            ValueError: A weight without owner is not zero, or one has another owner than before.
        """
        owners = {name: owner.cpu() for name, owner in owners.items()}
        own = len(self.steps) + 1
        former = self.rebuild(self.steps[-1]) if self.steps else {}
        entry: dict[str, Any] = {}
        for name, value in state.items():
            value = value.detach().cpu()
            before = former.get(name)
            if name not in owners:
                if before is None or not same_bits(value, before):
                    entry[name] = value.clone()
                continue
            if self.owners and not torch.equal(
                self.owners[name], owners[name].masked_fill(owners[name] == own, 0)
            ):
                raise ValueError(f'{name}: owners of earlier snapshots have changed')
            if value[owners[name] == 0].any():
                raise ValueError(f'{name}: weights that no snapshot owns are not zero')
            entry[name] = _pack_layer(value, owners[name], own, before)
        return PackedSnapshots((*self.steps, step), owners, (*self.entries, entry))

    def rebuild(self, step: int) -> dict[str, Tensor]:
        """Return the state dict of a snapshot, on the CPU.

        Raises:
            KeyError: There is no snapshot of this step.
        """
        if step not in self.steps:
            raise KeyError(step)
        state: dict[str, Tensor] = {}
        for own, entry in enumerate(self.entries[: self.steps.index(step) + 1], start=1):
            for name, stored in entry.items():
                state[name] = (
                    stored.clone()
                    if isinstance(stored, Tensor)
                    else _unpack_layer(stored, self.owners[name], own, state.get(name))
                )
        return state

    def bytes_of(self, step: int) -> SnapshotBytes:
        """Return the sizes of a snapshot in the file and as a network."""
        place = self.steps.index(step)
        state = self.rebuild(step)
        bits = bits_needed(len(self.steps))
        return SnapshotBytes(
            stored=sum(_stored_bytes(entry) for entry in self.entries[place].values()),
            owners=sum(bits * -(-owner.numel() // 8) for owner in self.owners.values())
            // len(self.steps),
            dense=sum(tensor.nbytes for tensor in state.values()),
            kept=sum(
                int(((owner > 0) & (owner <= place + 1)).sum()) for owner in self.owners.values()
            ),
            prunable=sum(owner.numel() for owner in self.owners.values()),
        )

    def save(self, path: Path, meta: Mapping[str, Any]) -> None:
        """Write the file atomically, with plain types and tensors only.

        Args:
            path: The file.
            meta: Information for readers of the file.
        """
        bits = bits_needed(len(self.steps))
        content = {
            'format': FORMAT,
            'meta': dict(meta),
            'steps': list(self.steps),
            'owners': {name: pack_owners(owner, bits) for name, owner in self.owners.items()},
            'shapes': {name: list(owner.shape) for name, owner in self.owners.items()},
            'snapshots': list(self.entries),
        }
        atomic_write(path, lambda file: torch.save(content, file))

    @classmethod
    def load(cls, path: str | Path) -> PackedSnapshots:
        """Read a file that :meth:`save` wrote.

        Raises:
            InputError: The file is missing, damaged or of another format.
        """
        if not Path(path).is_file():
            raise InputError(
                f'{path} does not exist: the pruned snapshots of the steps before are '
                'missing; run that step with a method that prunes'
            )
        try:
            content = read_weights(path)
            if content['format'] != FORMAT:
                raise ValueError('another format')
            bits = bits_needed(len(content['steps']))
            owners = {
                name: unpack_owners(owner, bits, tuple(content['shapes'][name]))
                for name, owner in content['owners'].items()
            }
            return cls(tuple(content['steps']), owners, tuple(content['snapshots']))
        except NotDataError:
            raise
        except Exception as error:
            raise InputError(
                f'{path} cannot be read ({error}): the file is damaged or of another '
                'version; put a whole one back, or walk anew'
            ) from error


@SNAPSHOT_READERS.register_module('packed')
def read_packed_snapshot(path: str | Path, step: int) -> dict[str, Tensor]:
    """Rebuild the weights of one step from a file of pruned snapshots.

    Args:
        path: The file.
        step: The step.

    Raises:
        InputError: The file is missing or damaged, or has no snapshot of this step.
    """
    packed = PackedSnapshots.load(path)
    if step not in packed.steps:
        raise InputError(
            f'{path} has snapshots of the steps {list(packed.steps)}, and none of '
            f'step {step}: it is of another walk or of an earlier step; put the file of this '
            'walk back, or walk anew'
        )
    return packed.rebuild(step)


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors are equal bit by bit (signs of zeros and NaNs included)."""
    return (
        first.shape == second.shape
        and first.dtype == second.dtype
        and torch.equal(_bits(first), _bits(second))
    )


def _bits(values: Tensor) -> Tensor:
    return values.detach().contiguous().view(-1).view(torch.uint8)


def _pack_layer(value: Tensor, owner: Tensor, own: int, before: Tensor | None) -> dict[str, Tensor]:
    """Return the values of a layer that the snapshot ``own`` stores."""
    stored = {'own': value[owner == own].clone()}
    earlier = (owner > 0) & (owner < own)
    if before is None or not earlier.any():
        return stored
    now, then = value[earlier], before[earlier]
    changed = (_bits(now) != _bits(then)).view(len(now), -1).any(dim=1)
    if changed.any():
        stored['values'] = now[changed].clone()
        if not changed.all():
            stored['changed'] = torch.from_numpy(np.packbits(changed.numpy()))
    return stored


def _unpack_layer(
    stored: Mapping[str, Tensor], owner: Tensor, own: int, before: Tensor | None
) -> Tensor:
    value = torch.zeros(owner.shape, dtype=stored['own'].dtype) if before is None else before
    value[owner == own] = stored['own']
    if 'values' in stored:
        flat = value.view(-1)
        places = ((owner > 0) & (owner < own)).view(-1).nonzero().squeeze(1)
        if 'changed' in stored:
            bits = np.unpackbits(stored['changed'].numpy(), count=len(places))
            places = places[torch.from_numpy(bits.astype(bool))]
        flat[places] = stored['values']
    return value


def _stored_bytes(stored: Tensor | Mapping[str, Tensor]) -> int:
    return (
        stored.nbytes
        if isinstance(stored, Tensor)
        else sum(part.nbytes for part in stored.values())
    )
