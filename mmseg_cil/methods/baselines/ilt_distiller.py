"""Distillation of one of the backbone's feature maps, or of the classifier's input."""

from __future__ import annotations

import math

from torch import Tensor, nn

from mmseg_cil.contracts import Batch, Distiller, Needs, NetworkOutput
from mmseg_cil.distillers.build import build_distillation_loss
from mmseg_cil.errors import InputError
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.near import near
from mmseg_cil.utils.values import check_number

#: Stage that stands for the input of the classifier.
EMBEDDING = 'embedding'


@MODELS.register_module()
class FeatureDistiller(Distiller):
    """Feeds a loss with one stage's features, or the embeddings, of student and teacher.

    Args:
        loss: Config of a loss module called with ``(student, teacher)`` maps
            ``(N, D, h, w)`` that returns a scalar and has a ``loss_name``.
        stage: Index among what the backbone (and neck) returns, or 'embedding' for the input of
            the decode head's classifier, before its dropout. Defaults to -1, the last index: the
            encoder's output, as in ILT.

    Raises:
        InputError: ``stage`` is neither a whole number nor 'embedding', or the loss does not
            compare two networks.
    """

    def __init__(self, loss: dict, stage: int | str = -1) -> None:
        super().__init__()
        self.loss = build_distillation_loss(self, loss)
        if stage != EMBEDDING:
            if isinstance(stage, str):
                meant = near(stage, (EMBEDDING,))
                raise InputError(
                    f'FeatureDistiller: stage must be a whole number or {EMBEDDING!r}, got '
                    f'{stage!r}{f": did you mean {meant!r}?" if meant else ""}'
                )
            check_number(self, 'stage', stage, least=-math.inf, whole=True)
        self.stage = stage
        self.needs = Needs(teacher=True, outputs=stage == EMBEDDING)

    def attach(self, network: nn.Module) -> None:
        """Check that the backbone returns the stage, once the segmentor is built.

        Raises:
            InputError: The backbone has ``out_indices``, the network has no neck, and
                ``stage`` is not among the stages that the backbone returns.
        """
        stages = getattr(network.backbone, 'out_indices', None)
        if stages is not None and not getattr(network, 'with_neck', False):
            self._check_stage(len(stages))

    def _check_stage(self, count: int) -> None:
        if isinstance(self.stage, int) and not -count <= self.stage < count:
            raise InputError(
                f'FeatureDistiller: stage {self.stage} is not among the {count} '
                f'feature maps that the backbone returns: give one of {-count}..{count - 1}'
            )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch under its name.

        Args:
            batch: Contains the record of the last step's teacher.

        Raises:
            InputError: The backbone returns no stage with this index.
        """
        student, teacher = batch.student, batch.teacher
        self._check_stage(len(student.features))
        maps = (self._map(record) for record in (student, teacher))
        return {self.loss.loss_name: self.loss(*maps)}

    def _map(self, record: NetworkOutput) -> Tensor:
        if isinstance(self.stage, str):
            return record.embedding
        return record.features[self.stage]
