"""Train with a loss of one's own: undecided pixels cost something, from the second step on.

python examples/own_loss.py work_dirs/own_loss
"""

import os
import sys
from typing import Any

from torch import Tensor, nn

import mmseg_cil
from mmseg_cil.contracts import HeadLoss
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext


@MODELS.register_module()
class EntropyLoss(HeadLoss, nn.Module):
    """Penalise undecided pixels.

    Args:
        loss_weight: Factor of the loss.
    """

    loss_name = 'loss_entropy'

    def __init__(self, loss_weight: float = 0.1) -> None:
        super().__init__()
        self.loss_weight, self.factor = loss_weight, 0.0

    def set_step(self, step: StepContext) -> None:
        """Take the classes of the step, when the network is built."""
        self.factor = self.loss_weight if step.index else 0.0

    def forward(self, logits: Tensor, labels: Tensor, **kwargs: Any) -> Tensor:
        """Return the mean entropy of the softmax, a scalar; logits are ``(N, C, H, W)``."""
        return -self.factor * (logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


iterations = int(os.environ.get('ITERATIONS', '300'))
print(
    mmseg_cil.walk(
        method='mib',
        protocol='embedded_11-5',
        work_dir=sys.argv[1],
        options={
            'method.loss_decode': [dict(type='UnbiasedCrossEntropyLoss'), dict(type='EntropyLoss')],
            'step_overrides.0.max_iters': iterations,
            'step_overrides.later.max_iters': iterations // 2,
        },
    )
)
