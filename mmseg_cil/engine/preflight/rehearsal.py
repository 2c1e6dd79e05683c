"""The rehearsal before training: a batch each of the first and the last step, trained and tested.

What would be found out hours later is so found out in seconds. Nothing of it stays: it works
in a temporary folder and puts the state of the process back.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_world_size

from mmseg_cil.datasets.sampler import SampleKey
from mmseg_cil.engine import samples
from mmseg_cil.engine.preflight.clean_state import alone, clean_state
from mmseg_cil.engine.preflight.failures import RehearsalError, phase
from mmseg_cil.engine.preflight.look_at_batch import check_training_batch
from mmseg_cil.engine.preflight.stand_ins import (
    State,
    forget_steps,
    learnt_steps,
    leave_exemplars,
    leave_networks,
    stand_in_inputs,
    weights_at_hand,
)
from mmseg_cil.engine.preflight.trial import make_trial, on_cpu, trained_once
from mmseg_cil.engine.preflight.trial_test import test_few
from mmseg_cil.engine.step_config import derive_step_config
from mmseg_cil.engine.step_runner import bare_model
from mmseg_cil.engine.sub_steps.base import SubStepInputs
from mmseg_cil.engine.sub_steps.run import fit_step, place, sub_step_folder, sub_steps_of
from mmseg_cil.engine.walk import Walk
from mmseg_cil.models.plain import plain_state_dict
from mmseg_cil.registry import DATASETS
from mmseg_cil.utils.main_process import decided_by_main
from mmseg_cil.utils.weights_files import weights_as_data

#: What networks raise at images of a size that they cannot take.
_OF_SIZES = (RuntimeError, ValueError, AssertionError, IndexError)


def wants_rehearsal(cfg: Config) -> bool:
    """Whether a config asks for a rehearsal, as it does unless it says ``rehearsal=False``."""
    return bool(cfg.get('rehearsal', True))


def rehearse(walk: Walk, steps: Sequence[int]) -> None:
    """Train and test the first and the last of some steps on a batch each, and forget it all.

    The main process does it, as if it were alone, and the others wait.

    Args:
        walk: The walk, checked.
        steps: Those that are to be trained now, in order.

    Raises:
        InputError: A step would fail; the message says which and in which phase.
    """
    if not steps:
        return
    start = time.monotonic()
    decided_by_main(lambda: _rehearse(walk, steps, get_world_size()))
    tried = sorted({steps[0], steps[-1]})
    decided_by_main(lambda: print(
        f'rehearsal: a batch of {" and of ".join(f"step {one}" for one in tried)} trained and '
        f'tested in {time.monotonic() - start:.1f} s'))


def _rehearse(walk: Walk, steps: Sequence[int], world_size: int) -> None:
    with clean_state(), weights_as_data(alone=True), \
            tempfile.TemporaryDirectory(prefix='mmseg_cil_') as folder:
        trial = _Trial(walk, replace(walk, work_dir=Path(folder, 'walk')), world_size)
        state: State | None = None
        for step in sorted({steps[0], steps[-1]}):
            state = trial.of_step(step, state)


@dataclass(frozen=True)
class _Trial:
    """Tries single steps.

    Attributes:
        real: The walk.
        walk: The same in a temporary folder.
        world_size: Processes that will train.
    """

    real: Walk
    walk: Walk
    world_size: int

    def of_step(self, step: int, state: State | None) -> State:
        """Try a step, on a CPU with images that are cut, and if they cannot be, as they are.

        Args:
            step: The step.
            state: Weights for stand-ins, of an earlier trial.

        Returns:
            The weights of the plain network after it.
        """
        if on_cpu():
            try:
                return self._try(step, state, cut=True)
            except RehearsalError as error:
                # Some networks take images of one size only.
                if not isinstance(error.__cause__, _OF_SIZES):
                    raise
        return self._try(step, state, cut=False)

    def _try(self, step: int, state: State | None, cut: bool) -> State:
        where = f'step {step}'
        cfg = self._config(step)
        if step > 0:
            if state is None:
                state = weights_at_hand(self.real, cfg, step)
            with phase(where, 'reading a training batch'):
                batch = self._one_image(cfg)
            with alone(), phase(where, 'making what earlier steps leave'):
                leave_networks(self.walk, step, state, batch, cut, self.world_size)
            self._sub_steps(step, cut)
        with alone(), trained_once(cfg, where, exact=step == 0, cut=cut,
                                   settle=step == 0) as runner:
            model: Any = bare_model(runner)
            with phase(where, 'taking back what the method changed in the network'):
                model.make_plain()
            test_few(runner, where)
            with phase(where, 'the sample pictures'):
                samples.predict_samples(model, self.walk, step, is_main=True,
                                        caches=self.real.work_dir, most=1)
            return {key: value.detach().cpu().clone()
                    for key, value in plain_state_dict(model.state_dict()).items()}

    def _config(self, step: int) -> Config:
        """The config of a step that starts from stand-ins."""
        leave_exemplars(self.walk, step, str(self.real.work_dir))
        inputs = stand_in_inputs(self.walk, step)
        cfg = derive_step_config(self.walk.cfg, self.walk.protocol, step, inputs,
                                 self.walk.work_dir, self.world_size)
        fit_step(cfg, self.walk, step)
        forget_steps(cfg, learnt_steps(self.walk, step))
        make_trial(cfg, self.real.work_dir / 'class_index')
        return cfg

    def _sub_steps(self, step: int, cut: bool) -> None:
        """One iteration of what is trained before a step, which leaves stand-ins of its files."""
        inputs = stand_in_inputs(self.walk, step)
        for one in sub_steps_of(self.walk, step, 'before'):
            where = f'the sub-step {one.name} of step {step}'
            folder = sub_step_folder(self.walk, step, one.name)
            cfg = one.derive_config(self.walk, step, SubStepInputs(inputs, None, folder))
            place(cfg, one, self.walk, step, folder, resume=False)
            make_trial(cfg, self.real.work_dir / 'class_index')
            with alone(), trained_once(cfg, where, cut=cut) as runner, \
                    phase(where, 'what it leaves'):
                one.stand_in(runner, folder)

    @staticmethod
    def _one_image(cfg: Config) -> Any:
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        batch = pseudo_collate([dataset[SampleKey(0, 0)]])
        check_training_batch(batch)
        return batch
