"""A sub-step that trains the network of its step a little further."""

from __future__ import annotations

import torch
from mmengine.dist import get_rank

from mmseg_cil.engine.runner.step_runner import bare_model
from mmseg_cil.engine.step_configs import sub_step_config
from mmseg_cil.engine.sub_steps import SubStep
from mmseg_cil.registry import SUB_STEPS
from mmseg_cil.utils.atomic import atomic_write

ARTEFACT = 'toy.pth'


@SUB_STEPS.register_module()
class ToySubStep(SubStep):
    def __init__(self, name=None, when='before', length=3):
        super().__init__(name)
        self.when = when
        self.length = length
        self._began = None

    def iterations(self, walk, step):
        return self.length

    def derive_config(self, walk, step, inputs):
        cfg = sub_step_config(walk, step, inputs)
        cfg.train_cfg.max_iters = self.length
        cfg.param_scheduler = None
        if inputs.snapshot is not None:
            cfg.load_from = inputs.snapshot['checkpoint']
            if inputs.snapshot['checkpoint']:
                state = torch.load(inputs.snapshot['checkpoint'])['state_dict']
                self._began = float(state['decode_head.conv_seg.weight'].sum())
        return cfg

    def finish(self, runner, folder):
        weight = bare_model(runner).decode_head.conv_seg.weight.detach()
        content = dict(began=self._began, ended=float(weight.sum()))
        if get_rank() == 0:
            atomic_write(folder / ARTEFACT, lambda file: torch.save(content, file))
        return [ARTEFACT]

    def hand_on(self, cfg, walk, step, folder):
        cfg.handed_on = str(folder / ARTEFACT)
