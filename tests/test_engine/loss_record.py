"""A hook for configs of tests: keeps the loss of every iteration on every process."""

import json
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook

from mmseg_cil.registry import HOOKS


@HOOKS.register_module()
class LossRecordHook(Hook):
    """Writes ``losses.RANK.json`` into the step's folder."""

    def before_train(self, runner):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs['loss']))

    def after_train(self, runner):
        path = Path(runner.work_dir) / f'losses.{get_rank()}.json'
        path.write_text(json.dumps(self.losses))
