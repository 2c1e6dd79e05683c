"""A method of one's own: L1 distance of features, low entropy, and a note on every step."""

from pathlib import Path

from mmengine.dist import master_only
from torch import nn

from mmseg_cil.contracts import Distiller, HeadLoss, StepHook, network_of
from mmseg_cil.registry import HOOKS, MODELS


@MODELS.register_module()
class FeatureL1Distiller(Distiller):
    """Keep the last feature map near that of the last step."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = weight

    def forward(self, batch):
        """Return the mean distance, a scalar; the maps are ``(N, D, h, w)``."""
        distance = (batch.student.features[-1] - batch.teacher.features[-1]).abs()
        return {'loss_l1': self.weight * distance.mean()}


@MODELS.register_module()
class EntropyLoss(HeadLoss, nn.Module):
    """Penalise undecided pixels, from the second step on."""

    loss_name = 'loss_entropy'

    def __init__(self, loss_weight=0.1):
        super().__init__()
        self.loss_weight, self.factor = loss_weight, 0.0

    def set_step(self, step):
        self.factor = self.loss_weight if step.index > 0 else 0.0

    def forward(self, logits, labels, **kwargs):
        """Return the mean entropy of the softmax of ``(N, C, H, W)``, a scalar."""
        return -self.factor * (logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


@HOOKS.register_module()
class NoteHook(StepHook):
    """Write what a step has learnt into its folder."""

    @master_only
    def after_step(self, runner):
        Path(runner.work_dir, 'note.txt').write_text(f'{network_of(runner).step.num_seen} classes')

    def has_kept(self, folder):
        return (folder / 'note.txt').is_file()
