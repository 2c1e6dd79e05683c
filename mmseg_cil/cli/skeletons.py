"""The files of a method's skeleton, as texts with ``$name`` and ``$cls`` in them."""

from __future__ import annotations

from string import Template

_DISTILLER = '''\
"""$name: a method of one's own."""

import torch
from torch import Tensor

from mmseg_cil.contracts import Batch, Distiller, Needs
from mmseg_cil.registry import MODELS


@MODELS.register_module()
class ${cls}Distiller(Distiller):
    """Keep the logits of the old classes near those of the last step.

    Args:
        loss_weight: Factor of the loss.
    """

    #: The last step's network runs on the same images.
    needs = Needs(teacher=True)

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean squared difference, a scalar.

        The student's logits are ``(N, C, h, w)``; the teacher's are those of the old classes,
        ``(N, C_old, h, w)``, which come first in the student's.
        """
        old = batch.teacher.logits
        difference = batch.student.logits[:, : old.shape[1]] - old
        return {'loss_$name': self.loss_weight * torch.mean(difference**2)}
'''

_LOSS = '''\
"""$name: a method of one's own."""

from typing import Any

from torch import Tensor, nn

from mmseg_cil.contracts import HeadLoss
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext


@MODELS.register_module()
class ${cls}Loss(HeadLoss, nn.Module):
    """Penalise undecided pixels, from the second step on.

    Args:
        loss_weight: Factor of the loss.
    """

    loss_name = 'loss_$name'

    def __init__(self, loss_weight: float = 0.1) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.factor = 0.0

    def set_step(self, step: StepContext) -> None:
        """Take the classes of the step, once, when the network is built."""
        self.factor = self.loss_weight if step.index > 0 else 0.0

    def forward(self, logits: Tensor, labels: Tensor, **kwargs: Any) -> Tensor:
        """Return the mean entropy of the softmax, a scalar.

        Args:
            logits: ``(N, C, H, W)``.
            labels: ``(N, H, W)``: ids in the order of the classes' steps; 255 is ignored.
            **kwargs: All else that MMSegmentation hands to a loss.
        """
        entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
        return self.factor * entropy.mean()
'''

_DISTILLER_PIECE = '''\
"""$name: plain cross-entropy, and a distiller of one's own."""

custom_imports = dict(imports=['$name'])
method = dict(
    name='$name',
    loss_decode=dict(type='CrossEntropyLoss'),
    distillers=[dict(type='${cls}Distiller', loss_weight=1.0)],
)
'''

_LOSS_PIECE = '''\
"""$name: plain cross-entropy, and a loss of one's own."""

custom_imports = dict(imports=['$name'])
method = dict(
    name='$name',
    loss_decode=[dict(type='CrossEntropyLoss'), dict(type='${cls}Loss', loss_weight=0.1)],
)
'''

_TEST = '''\
"""$name resumes, runs in two processes, replays, ... as every method does (a minute)."""

from pathlib import Path

import pytest

from mmseg_cil.engine.config.compose import read_piece
from mmseg_cil.testing.method_checks import CHECKS, check_method

PIECE = Path(__file__).parent / '$name' / '$name.py'


@pytest.mark.parametrize('check', list(CHECKS))
def test_$name(tmp_path: Path, check: str) -> None:
    method = read_piece('method', str(PIECE))['method']
    check_method(method, tmp_path, imports=['$name'], checks=[check])
'''

#: The texts of each kind of skeleton: that of its package and that of its piece.
SKELETONS = {'distiller': (_DISTILLER, _DISTILLER_PIECE), 'loss': (_LOSS, _LOSS_PIECE)}


def render(name: str, class_name: str, kind: str) -> dict[str, str]:
    """Return the text of each file of a skeleton by its path.

    Args:
        name: Name of the method and its package.
        class_name: First part of the class name of the method's distiller or loss.
        kind: A key of :data:`SKELETONS`.
    """
    package, piece = SKELETONS[kind]
    texts = {
        f'{name}/__init__.py': package,
        f'{name}/{name}.py': piece,
        f'test_{name}.py': _TEST,
    }
    return {
        path: Template(text).substitute(name=name, cls=class_name) for path, text in texts.items()
    }
