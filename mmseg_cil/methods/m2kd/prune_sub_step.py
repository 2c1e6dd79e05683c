"""The sub-step that keeps a step's network as a pruned snapshot."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmseg_cil.contracts import network_of
from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.engine.config.step_overrides import apply_overrides
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.runner import step_runner
from mmseg_cil.engine.runner.scoring import score_weights
from mmseg_cil.engine.step_configs import sub_step_config
from mmseg_cil.engine.sub_steps.base import SubStep, SubStepInputs
from mmseg_cil.engine.walk import Walk
from mmseg_cil.errors import InputError
from mmseg_cil.methods.m2kd.packed_snapshots import FILE_NAME, PackedSnapshots, same_bits
from mmseg_cil.methods.m2kd.pruning_mask_hook import PruningMaskHook
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.models.teacher import load_packed_state
from mmseg_cil.registry import SUB_STEPS

#: Hooks that are left out of the retraining: they would change the network despite the mask.
UNWANTED_HOOKS = ('EMAHook', 'ImprintClassifierHook', 'VDFDHook')


@SUB_STEPS.register_module()
class PruneSnapshot(SubStep):
    """Prunes a copy of a trained step's network, retrains it briefly, and packs it.

    ``step_XX/prune/snapshots.pth`` then holds this snapshot and all earlier ones. Later
    steps learn from these snapshots. The step's own checkpoint, which is evaluated and
    from which the next step starts, stays as it was.

    Retraining uses the step's own loss (teachers included), data and schedule; the
    schedule is stretched to the length of the retraining. Changes of the network during
    training (``network_change``), self-supervision and regularisers are left out.

    Source: "mask-based pruning" of Zhou et al., M2KD, arXiv 1904.01769, whose details
    were not accessible. Magnitude pruning, layer by layer, of the weights that earlier
    snapshots do not own comes from PackNet (Mallya and Lazebnik, CVPR 2018). Length and
    learning rate of the retraining are design choices.

    Args:
        ratio: Share of each layer's free weights that is pruned, in [0, 1). None
            keeps no snapshots: later steps learn from the checkpoints.
        retrain: Iterations of the retraining as a share of the step's iterations; 0: no
            retraining.
        lr_factor: Learning rate of the retraining divided by that of the step.
        earlier: 'trained': weights of earlier snapshots go on changing and are stored
            again. 'frozen': in the snapshot these weights keep the values of the snapshot
            before, as in PackNet, which makes the file small.
        name: Name of folder and record. Defaults to 'prune'.

    Raises:
        InputError: An argument is out of range.
    """

    name = 'prune'
    when = 'after'

    def __init__(
        self,
        ratio: float | None = 0.5,
        retrain: float = 0.1,
        lr_factor: float = 0.1,
        earlier: str = 'trained',
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if ratio is not None and not 0 <= ratio < 1:
            raise InputError(f'PruneSnapshot: ratio must be in [0, 1) or None, got {ratio!r}')
        if retrain < 0 or lr_factor <= 0:
            raise InputError(
                f'PruneSnapshot: retrain must be at least 0 and lr_factor above 0, '
                f'got {retrain!r} and {lr_factor!r}'
            )
        if earlier not in ('trained', 'frozen'):
            raise InputError(
                f"PruneSnapshot: earlier must be 'trained' or 'frozen', got {earlier!r}"
            )
        self.ratio = ratio
        self.retrain = retrain
        self.lr_factor = lr_factor
        self.earlier = earlier
        self._step = 0
        self._test: dict[str, Any] = {}

    def applies(self, walk: Walk, step: int) -> bool:
        """Return whether the step trains and ``ratio`` is not None."""
        return self.ratio is not None and super().applies(walk, step)

    def iterations(self, walk: Walk, step: int) -> int:
        """See :meth:`SubStep.iterations`."""
        return round(self.retrain * walk.iterations[step])

    def replace_teachers(self, walk: Walk, steps: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return the snapshots of all these steps, from the file of the last step."""
        path = str(self._file(walk, steps[-1]))
        return {step: dict(packed=path, snapshot=step) for step in steps}

    def derive_config(self, walk: Walk, step: int, inputs: SubStepInputs) -> Config:
        """See :meth:`SubStep.derive_config`."""
        assert inputs.snapshot is not None
        cfg = sub_step_config(walk, step, inputs)
        self._step = step
        self._test = {
            key: copy.deepcopy(cfg[key])
            for key in ('test_dataloader', 'test_evaluator', 'test_cfg')
        }
        checkpoint = inputs.snapshot['checkpoint']
        cfg.load_from = checkpoint or None
        cfg.model.update(MethodConfig.without('change', 'weights'))
        _shorten(cfg, self.iterations(walk, step), self.lr_factor)
        before = [earlier for earlier in range(step) if self.applies(walk, earlier)]
        cfg.custom_hooks = [
            custom_hook
            for custom_hook in cfg.custom_hooks
            if custom_hook.type not in UNWANTED_HOOKS
        ]
        cfg.custom_hooks.append(
            dict(
                type='PruningMaskHook',
                checkpoint=checkpoint,
                num_classes=inputs.snapshot['num_classes'],
                ratio=self.ratio,
                former=str(self._file(walk, before[-1])) if before else None,
                freeze=self.earlier == 'frozen',
            )
        )
        return cfg

    def finish(self, runner: Runner, folder: Path) -> Sequence[str]:
        """Pack and evaluate the snapshot; see :meth:`SubStep.finish`."""
        hook = next(
            candidate for candidate in runner.hooks if isinstance(candidate, PruningMaskHook)
        )
        model = network_of(runner)
        state = plain_state_dict(model.state_dict())
        packed = hook.packed.extended(self._step, state, hook.owners)
        rebuilt = packed.rebuild(self._step)
        assert all(same_bits(value.detach().cpu(), rebuilt[name]) for name, value in state.items())
        model.load_state_dict(rebuilt, strict=False)
        runner._test_dataloader = self._test['test_dataloader']
        runner._test_evaluator = self._test['test_evaluator']
        runner._test_loop = self._test['test_cfg']
        scores = step_runner.evaluate(runner, has_run=True)
        self.summary = summary_of(packed, self._step, scores)
        if get_rank() == 0:
            packed.save(folder / FILE_NAME, dict(ratio=self.ratio, earlier=self.earlier))
        print_log(said_of(self._step, self.summary, network_score(folder.parent)), logger='current')
        return [FILE_NAME]

    def rescore(self, walk: Walk, step: int, folder: Path, launcher: str) -> dict[str, Any]:
        """Return the snapshot's mIoU; see :meth:`SubStep.rescore`."""
        path = folder / FILE_NAME
        state = load_packed_state(path, step, len(walk.protocol.steps[step].seen))
        scores = score_weights(walk, step, state, path, launcher)
        return dict(snapshot_mIoU=scores['mIoU']['all'])

    def _file(self, walk: Walk, step: int) -> Path:
        return step_folder(walk.work_dir, step) / self.name / FILE_NAME


def summary_of(packed: PackedSnapshots, step: int, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return the journal's record of a snapshot: bytes, share of weights, and mIoU.

    Args:
        packed: All snapshots up to this one.
        step: Step of the snapshot.
        scores: Scores of the snapshot, in the form of ``metrics.json``.
    """
    size = packed.bytes_of(step)
    return dict(
        snapshot_mIoU=scores['mIoU']['all'],
        kept_share=round(size.kept / max(1, size.prunable), 6),
        bytes_snapshot=size.stored + size.owners,
        bytes_dense=size.dense,
        bytes_all_snapshots=sum(sum(packed.bytes_of(kept_step)[:2]) for kept_step in packed.steps),
    )


def network_score(folder: Path) -> float | None:
    """Return the mIoU over all classes of a step's own network; None if it is not evaluated.

    Args:
        folder: Folder of the step.
    """
    path = folder / 'metrics.json'
    if not path.is_file():
        return None
    score: float | None = json.loads(path.read_text(encoding='utf-8'))['mIoU']['all']
    return score


def said_of(step: int, summary: Mapping[str, Any], network: float | None) -> str:
    """Return a line on a snapshot for the console.

    Args:
        step: Step of the snapshot.
        summary: From :func:`summary_of`.
        network: mIoU of the network that was pruned.
    """

    def per_cent(score: float | None) -> str:
        return 'undefined' if score is None else format(100 * score, '.1f')

    return (
        f'step {step}: pruned snapshot with {100 * summary["kept_share"]:.1f} % of the weights '
        f'that can be pruned, {summary["bytes_snapshot"] / 2**20:.2f} MiB (the network: '
        f'{summary["bytes_dense"] / 2**20:.2f} MiB; all snapshots so far: '
        f'{summary["bytes_all_snapshots"] / 2**20:.2f} MiB), mIoU '
        f'{per_cent(summary["snapshot_mIoU"])} (the network: {per_cent(network)})'
    )


def _shorten(cfg: Config, iterations: int, lr_factor: float) -> None:
    """Change the length and the learning rate of a config's training, in place."""
    if not iterations:
        cfg.train_cfg.max_iters = 0
        cfg.param_scheduler = None
        return
    changes: dict[str, Any] = {'max_iters': iterations}
    rate = (cfg.optim_wrapper.get('optimizer') or {}).get('lr')
    if rate is not None:
        changes['lr'] = rate * lr_factor
    apply_overrides(cfg, changes, images=1, global_batch=1)
