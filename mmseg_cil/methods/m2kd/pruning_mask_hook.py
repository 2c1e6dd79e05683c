"""A hook that keeps a network pruned during its training."""

from __future__ import annotations

from mmengine.runner import Runner
from torch import Tensor

from mmseg_cil.contracts import StepHook, network_of
from mmseg_cil.methods.m2kd.packed_snapshots import PackedSnapshots
from mmseg_cil.methods.m2kd.weight_owners import Owners, apply_owners, claim_weights, restore_owned
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.models.teacher import load_plain_state
from mmseg_cil.registry import HOOKS


@HOOKS.register_module()
class PruningMaskHook(StepHook):
    """Prunes the network before training, and again after every iteration.

    The mask depends on the step's checkpoint and on the earlier snapshots alone, so a
    resumed training has the same mask.

    Args:
        checkpoint: Checkpoint of the step, not pruned.
        num_classes: Number of classes of the checkpoint.
        ratio: Share of the free weights that is pruned, layer by layer.
        former: File of the earlier snapshots; None for the first snapshot.
        freeze: Weights of earlier snapshots keep the values of the last of these snapshots.
    """

    # The hook runs before hooks that save or average weights.
    priority = 'ABOVE_NORMAL'
    rehearsed = True

    def __init__(
        self,
        checkpoint: str,
        num_classes: int,
        ratio: float,
        former: str | None = None,
        freeze: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.num_classes = num_classes
        self.ratio = ratio
        self.former = former
        self.freeze = freeze
        #: Earlier snapshots, and the owners including this snapshot; filled before training.
        self.packed = PackedSnapshots()
        self.owners: Owners = {}
        self._frozen: dict[str, Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        """Compute the mask and apply it."""
        state = load_plain_state(self.checkpoint, self.num_classes)
        if self.former is not None:
            self.packed = PackedSnapshots.load(self.former)
        own = _weights(runner)
        self.owners = {
            name: owner.to(own[name].device)
            for name, owner in claim_weights(
                state, self.packed.owners, self.ratio, len(self.packed.steps) + 1
            ).items()
        }
        if self.freeze and self.packed.steps:
            frozen = self.packed.rebuild(self.packed.steps[-1])
            self._frozen = {name: frozen[name].to(own[name].device) for name in self.owners}
        self._prune(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        """Apply the mask again, because the optimizer has changed every weight."""
        self._prune(runner)

    def _prune(self, runner: Runner) -> None:
        weights = _weights(runner)
        last = len(self.packed.steps)
        if self._frozen:
            restore_owned(weights, self.owners, self._frozen, last)
        apply_owners(weights, self.owners, last + 1)


def _weights(runner: Runner) -> dict[str, Tensor]:
    """Return the network's own tensors by their names in plain form."""
    return plain_state_dict(network_of(runner).state_dict())
