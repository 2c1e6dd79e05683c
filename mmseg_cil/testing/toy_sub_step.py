"""A sub-step that trains the network of its step a little further."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.runner import Runner

from mmseg_cil.contracts import network_of
from mmseg_cil.engine.step_configs import sub_step_config
from mmseg_cil.engine.sub_steps import SubStep
from mmseg_cil.engine.sub_steps.base import SubStepInputs
from mmseg_cil.engine.walk import Walk
from mmseg_cil.registry import SUB_STEPS
from mmseg_cil.utils.atomic import atomic_write

#: The file that the sub-step leaves: sums of the classifier's weights before and after training.
ARTEFACT = 'toy.pth'


@SUB_STEPS.register_module()
class ToySubStep(SubStep):
    """A sub-step that trains a few iterations and writes sums of the classifier's weights.

    Args:
        name: Name of the sub-step's folder.
        when: 'before' the step or 'after' it.
        length: Number of iterations.
    """

    def __init__(self, name: str | None = None, when: str = 'before', length: int = 3) -> None:
        super().__init__(name)
        self.when = when
        self.length = length
        self._began: float | None = None

    def iterations(self, walk: Walk, step: int) -> int:
        """Return the number of iterations."""
        return self.length

    def derive_config(self, walk: Walk, step: int, inputs: SubStepInputs) -> Config:
        """Derive the config from the step's, and begin with the step's weights if there are any."""
        cfg = sub_step_config(walk, step, inputs)
        cfg.train_cfg.max_iters = self.length
        cfg.param_scheduler = None
        if inputs.snapshot is not None:
            cfg.load_from = inputs.snapshot['checkpoint']
            if inputs.snapshot['checkpoint']:
                state = torch.load(inputs.snapshot['checkpoint'])['state_dict']
                self._began = float(state['decode_head.conv_seg.weight'].sum())
        return cfg

    def finish(self, runner: Runner, folder: Path) -> Sequence[str]:
        """Write the artefact."""
        weight = network_of(runner).get_parameter('decode_head.conv_seg.weight').detach()
        content = dict(began=self._began, ended=float(weight.sum()))
        if get_rank() == 0:
            atomic_write(folder / ARTEFACT, lambda file: torch.save(content, file))
        return [ARTEFACT]

    def hand_on(self, cfg: Config, walk: Walk, step: int, folder: Path) -> None:
        """Write the artefact's path into the config of the step."""
        cfg.handed_on = str(folder / ARTEFACT)
