"""Owners of weights, the snapshots they belong to, by magnitude pruning layer by layer.

An owner is a small integer for every weight of a layer: 0 where the weight is
free, k where the k-th snapshot (counted from 1) was the first to keep it. The
k-th snapshot consists of the weights with owners 1..k; all others are zero in it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

#: Owners by the name of a weight in a state dict: uint8, of the weight's shape.
Owners = dict[str, Tensor]

#: Names that modules give to weights that can be pruned, if these have two dimensions or
#: more. The last four names are those of ``nn.MultiheadAttention``.
PRUNABLE = ('weight', 'in_proj_weight', 'q_proj_weight', 'k_proj_weight', 'v_proj_weight')

#: Layers of MMSegmentation's heads whose shape depends on the number of classes.
CLASS_LAYERS = (
    'conv_seg',
    'pam_conv_seg',
    'cam_conv_seg',
    'se_layer',
    'p_cls_seg',
    'aux_cls_seg',
    'fcs',
    'fc_seg',
)


def prunable_names(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the names of the weights of convolutions, linear layers and attention.

    These weights can be pruned. The projections of queries, keys and values of an
    ``nn.MultiheadAttention`` are parameters of the module itself (``in_proj_weight``),
    not of a linear layer.

    Classifiers (:data:`CLASS_LAYERS`) are not pruned, because they grow with the
    classes and are small; nor are norms, biases, tables of positions, tokens and
    buffers. Every snapshot keeps all of these whole. (A design choice, as in PackNet.)

    Args:
        state: State dict of a plain network.
    """
    return tuple(
        name
        for name, value in state.items()
        if name.rsplit('.', 1)[-1] in PRUNABLE
        and value.dim() > 1
        and value.is_floating_point()
        and not set(name.split('.')) & set(CLASS_LAYERS)
    )


def claim_free(weight: Tensor, owners: Tensor, ratio: float, snapshot: int) -> Tensor:
    """Give the largest free weights of a layer to a snapshot.

    Among the F weights that no snapshot owns, the ``round((1 - ratio) * F)`` weights of
    greatest magnitude are kept; among weights of equal magnitude the first.

    Source: the magnitude pruning of Mallya and Lazebnik, "PackNet", CVPR 2018,
    section 3 (``SparsePruner.pruning_mask`` of arunmallya/packnet), which M2KD
    (arXiv 1904.01769) is said to follow.

    Args:
        weight: Weight of any shape.
        owners: uint8, of the same shape; not changed.
        ratio: The share of the free weights that is pruned, in [0, 1].
        snapshot: The new owner.

    Returns:
        The owners with those of the new snapshot, uint8 of the same shape.
    """
    free = (owners == 0).flatten()
    kept = round((1 - ratio) * int(free.sum()))
    size = weight.detach().abs().flatten().float().masked_fill(~free, -1.0)
    chosen = size.argsort(descending=True, stable=True)[:kept]
    result = owners.clone().flatten()
    result[chosen] = snapshot
    return result.view_as(owners)


def claim_weights(
    state: Mapping[str, Tensor], former: Mapping[str, Tensor], ratio: float, snapshot: int
) -> Owners:
    """Apply :func:`claim_free` to every layer of a network.

    The layers are those that the first snapshot pruned: a layer that the first snapshot
    kept whole (an older version did not prune attention) stays whole.

    Args:
        state: State dict of a plain network.
        former: Owners before this snapshot; empty at the first.
        ratio: The share of free weights that is pruned.
        snapshot: The new owner, from 1.
    """
    return {
        name: claim_free(
            state[name],
            former[name].to(state[name].device)
            if former
            else torch.zeros_like(state[name], dtype=torch.uint8),
            ratio,
            snapshot,
        )
        for name in former or prunable_names(state)
    }


def apply_owners(weights: Mapping[str, Tensor], owners: Mapping[str, Tensor], last: int) -> None:
    """Set to zero, in place, the weights that the snapshots 1..``last`` do not own.

    Args:
        weights: Weights (or parameters) by name; those without owners stay as they are.
        owners: From :func:`claim_weights`, on the weights' device.
        last: Number of the snapshot that the weights become.
    """
    with torch.no_grad():
        for name, owner in owners.items():
            weights[name].masked_fill_((owner == 0) | (owner > last), 0.0)


def restore_owned(
    weights: Mapping[str, Tensor],
    owners: Mapping[str, Tensor],
    former: Mapping[str, Tensor],
    last: int,
) -> None:
    """Set the weights that the snapshots 1..``last`` own to the values of snapshot ``last``.

    Args:
        weights: Weights by name, changed in place.
        owners: From :func:`claim_weights`.
        former: State dict of the snapshot ``last``.
        last: Number of the snapshot in ``former``.
    """
    with torch.no_grad():
        for name, owner in owners.items():
            kept = (owner > 0) & (owner <= last)
            weights[name].copy_(torch.where(kept, former[name].to(weights[name]), weights[name]))


def bits_needed(snapshots: int) -> int:
    """Return the bits of an owner, ``ceil(log2(snapshots + 1))`` for owners 0..snapshots."""
    return max(1, int(snapshots).bit_length())


def pack_owners(owners: Tensor, bits: int) -> Tensor:
    """Pack owners into ``bits`` bits each.

    Args:
        owners: uint8, of any shape, below ``2**bits``.
        bits: Bits of an owner.

    Returns:
        uint8 ``(bits * ceil(n / 8),)``: a plane of n bits for each bit, the lowest first.
    """
    flat = owners.cpu().numpy().reshape(-1)
    planes = [np.packbits((flat >> bit) & 1) for bit in range(bits)]
    return torch.from_numpy(np.concatenate(planes))


def unpack_owners(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """Unpack owners, as the inverse of :func:`pack_owners`.

    Raises:
        ValueError: The number of bytes does not fit the shape.
    """
    count = int(np.prod(shape))
    planes = packed.numpy().reshape(bits, -1)
    if planes.shape[1] != -(-count // 8):
        raise ValueError(f'{planes.shape[1]} bytes a bit for {count} weights')
    values = np.zeros(count, np.uint8)
    for bit, plane in enumerate(planes):
        values |= np.unpackbits(plane, count=count) << bit
    return torch.from_numpy(values).view(shape)
