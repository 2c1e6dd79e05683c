"""The rehearsal before training: a batch each of the first and the last step, trained and tested.

Errors thus show within seconds that would otherwise show after hours. The rehearsal works in a
temporary folder and restores the state of the process, so that nothing of it stays.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_rank, get_world_size

from mmseg_cil.contracts import network_of
from mmseg_cil.datasets.sampler import SampleKey
from mmseg_cil.engine import predictions
from mmseg_cil.engine.config.length import global_batch_size
from mmseg_cil.engine.export.checkpoint import export_checkpoint
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.engine.preflight.clean_state import alone, clean_state
from mmseg_cil.engine.preflight.failures import RehearsalError, is_out_of_memory, phase
from mmseg_cil.engine.preflight.look_at_batch import check_training_batch
from mmseg_cil.engine.preflight.stand_ins import (
    State,
    forget_steps,
    learnt_steps,
    leave_exemplars,
    leave_networks,
    snapshot_of,
    stand_in_inputs,
    weights_at_hand,
)
from mmseg_cil.engine.preflight.trial import is_enlarged, make_trial, on_cpu, trained_once
from mmseg_cil.engine.preflight.trial_test import test_few
from mmseg_cil.engine.step_configs import training_config
from mmseg_cil.engine.sub_steps.base import SubStepInputs
from mmseg_cil.engine.sub_steps.listing import sub_step_folder, sub_steps_of
from mmseg_cil.engine.sub_steps.run import place
from mmseg_cil.engine.walk import Walk
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.registry import DATASETS
from mmseg_cil.utils.main_process import decided_by_main
from mmseg_cil.utils.weights_files import weights_as_data

#: Bytes of free space below which a failure is attributed to the lack of space.
_LEAST_SPACE = 2**20


def wants_rehearsal(cfg: Config) -> bool:
    """Return whether a config asks for a rehearsal, as it does without ``rehearsal=False``."""
    return bool(cfg.get('rehearsal', True))


def rehearse(walk: Walk, steps: Sequence[int]) -> None:
    """Train and test the first and the last of some steps on a batch each, and keep nothing.

    Rank 0 rehearses as if it were alone, and the other processes wait.

    Args:
        walk: The walk, checked.
        steps: The steps that are to be trained now, in order.

    Raises:
        InputError: A step would fail; the message names the step and the phase.
    """
    if not steps:
        return
    start = time.monotonic()
    found = decided_by_main(lambda: _rehearse(walk, steps, get_world_size()))
    notes = [*found.notes, *(f'the report will go without {name}' for name in found.undrawn)]
    if (
        found.unused
        and get_world_size() > 1
        and not walk.cfg.get('model_wrapper_cfg')
        and not walk.cfg.get('find_unused_parameters')
    ):
        # Set on all processes: a process that waits for gradients that are never computed fails.
        walk.cfg.find_unused_parameters = True
        notes.append(
            f'the losses do not depend on {found.unused[0]} (of {len(found.unused)} such '
            'parameters), so find_unused_parameters=True is set for this job'
        )
    tried = ' and of '.join(f'step {step}' for step in sorted({steps[0], steps[-1]}))
    if get_rank() == 0:
        for note in notes:
            print(f'note: {note}')
        print(
            f'rehearsal: a batch of {tried} trained and tested in {time.monotonic() - start:.1f} s'
        )


@dataclass
class Findings:
    """The findings of a rehearsal that end no walk.

    Attributes:
        undrawn: Sample pictures that cannot be drawn, with the reasons.
        unused: Trainable parameters that no loss depends on.
        notes: Steps that could not be rehearsed, with the reasons.
    """

    undrawn: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _rehearse(walk: Walk, steps: Sequence[int], world_size: int) -> Findings:
    found = Findings()
    with clean_state(), weights_as_data(alone=True), contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix='mmseg_cil_'))
        except OSError as error:
            found.notes.append(
                f'there is no rehearsal, for it needs a temporary folder: {error}; '
                'TMPDIR can name another one'
            )
            return found
        trial = _Trial(walk, replace(walk, work_dir=Path(folder, 'walk')), world_size, found)
        batch = global_batch_size(walk.cfg, world_size) // world_size
        enlarged = is_enlarged(batch, world_size)
        state: State | None = None
        for step in sorted({steps[0], steps[-1]}):
            try:
                state = trial.of_step(step, state)
            except RehearsalError as error:
                found.notes.append(_excuse(error, step, folder, enlarged))
    return found


def _excuse(error: RehearsalError, step: int, folder: str, enlarged: bool) -> str:
    """Return why a step is not rehearsed if the rehearsal is at fault; else raise the error.

    Args:
        error: The error of the step's rehearsal.
        step: The step.
        folder: Folder of the stand-ins, which training does not need.
        enlarged: Whether the batch was larger than in training.
    """
    if enlarged and is_out_of_memory(error):
        return (
            f'step {step} is not rehearsed to its end, for that takes two images at a time, '
            'and there is memory for one'
        )
    if _lacks_space(error, folder):
        return (
            f'step {step} is not rehearsed, for it would need more space in {folder}: TMPDIR '
            'can name another folder'
        )
    raise error


def _lacks_space(error: BaseException, folder: str) -> bool:
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in (errno.ENOSPC, errno.EDQUOT):
            return folder in str(found.filename or folder)
        found = found.__cause__ or found.__context__
    return shutil.disk_usage(folder).free < _LEAST_SPACE


@dataclass(frozen=True)
class _Trial:
    """The rehearsal of single steps.

    Attributes:
        real: The walk.
        walk: The same walk in a temporary folder.
        world_size: Number of processes that will train.
        found: The findings so far.
    """

    real: Walk
    walk: Walk
    world_size: int
    found: Findings

    def of_step(self, step: int, state: State | None) -> State:
        """Try a step; on a CPU, try it with cut images first, and uncut if cutting may fail it.

        Args:
            step: The step.
            state: Weights for stand-ins, from an earlier trial.

        Returns:
            The weights of the plain network after the step.
        """
        if on_cpu():
            try:
                return self._try(step, state, cut=True)
            except RehearsalError as error:
                if not error.of_size:
                    raise
        return self._try(step, state, cut=False)

    def _try(self, step: int, state: State | None, cut: bool) -> State:
        where = f'step {step}'
        cfg, whole = self._config(step)
        dataset = None
        if step > 0:
            with phase(where, 'reading a training batch'):
                dataset = DATASETS.build(cfg.train_dataloader.dataset)
                batch = _two_images(dataset)
            with alone(), phase(where, 'making what earlier steps leave'):
                if state is None:
                    state = weights_at_hand(self.real, cfg, step, batch, cut)
                leave_networks(self.walk, step, state, batch, cut, self.world_size)
            self._sub_steps(step, 'before', cut)
        base = step == 0
        with alone(), trained_once(cfg, where, base and whole, cut, base, dataset) as runner:
            model: Any = network_of(runner)
            self.found.unused.extend(runner.train_loop.unused)
            with phase(where, 'taking back what the method changed in the network'):
                model.make_plain()
            test_few(runner, where)
            self.found.undrawn[:] = predictions.predict_samples(
                model, self.walk, step, is_main=True, caches=self.real.work_dir, most=1
            )
            export_checkpoint(model, step_folder(self.walk.work_dir, step), {})
            state = {
                key: value.detach().cpu().clone()
                for key, value in plain_state_dict(model.state_dict()).items()
            }
        if base:
            # Sub-steps after later steps need the files that sub-steps after earlier steps leave.
            self._sub_steps(step, 'after', cut)
        return state

    def _config(self, step: int) -> tuple[Config, bool]:
        """Return the config of a step that starts from stand-ins, and if its batches are whole."""
        leave_exemplars(self.walk, step, str(self.real.work_dir))
        inputs = stand_in_inputs(self.walk, step)
        cfg = training_config(self.walk, step, inputs)
        forget_steps(cfg, learnt_steps(self.walk, step))
        return cfg, self._make_trial(cfg)

    def _make_trial(self, cfg: Config) -> bool:
        return make_trial(cfg, self.real.work_dir / 'class_index', self.world_size)

    def _sub_steps(self, step: int, when: str, cut: bool) -> None:
        """Run one iteration of each sub-step before, or after, a step.

        A sub-step before the step leaves stand-ins of its files.
        """
        inputs = stand_in_inputs(self.walk, step)
        snapshot = snapshot_of(self.walk, step) if when == 'after' else None
        for sub_step in sub_steps_of(self.walk, step, when):
            where = f'the sub-step {sub_step.name} of step {step}'
            folder = sub_step_folder(self.walk, step, sub_step.name)
            with phase(where, 'building it'):
                cfg = sub_step.derive_config(
                    self.walk, step, SubStepInputs(inputs, snapshot, folder)
                )
                place(cfg, sub_step, self.walk, step, folder, resume=False)
            self._make_trial(cfg)
            with alone(), trained_once(cfg, where, cut=cut) as runner:
                if when == 'before':
                    with phase(where, 'what it leaves'):
                        sub_step.stand_in(runner, folder)


def _two_images(dataset: Any) -> Any:
    batch = pseudo_collate(
        [dataset[SampleKey(index, index)] for index in range(min(2, len(dataset)))]
    )
    check_training_batch(batch)
    return batch
