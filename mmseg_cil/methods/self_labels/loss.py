"""The decode loss that learns from self-labels."""

from __future__ import annotations

import torch
from mmseg.utils import SampleList
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.losses.decode_loss import DecodeLoss
from mmseg_cil.losses.hidden_classes import label_is_hidden
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.mib.unbiased_cross_entropy import shared_unbiased_cross_entropy
from mmseg_cil.methods.self_labels.reference import UNSURE
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext

UNSURES = ('unbiased', 'ignore')


@MODELS.register_module()
class SelfLabelCrossEntropyLoss(DecodeLoss):
    """``reference.self_label_cross_entropy`` over shared pixels, for any head.

    The loss needs a ``SelfLabelsHook`` among the hooks, which makes the labels before the step,
    and ``further_map=dict(type='SelfLabelMap')``, which reads the labels. If the labels of the
    step hide no old classes, the loss is the ordinary cross-entropy. On exemplars, whose labels of
    old classes are true, self-labels give only classes that the exemplar's background hides.

    Args:
        loss_weight: Factor of the loss. Defaults to 1.0.
        unsure: Treatment of pixels of which the network was not sure. 'unbiased' (default):
            background and any old class are right. 'ignore': the pixels are ignored, as in PLOP.
        avg_non_ignore: The mean is over the pixels that are not ignored; by default the mean is
            over all pixels.
        loss_name: Name in the log. Defaults to 'loss_self_labels'.

    Raises:
        InputError: ``unsure`` is unknown.
    """

    needs_hook = 'SelfLabelsHook'

    knows_hidden_classes = True

    def __init__(
        self,
        loss_weight: float = 1.0,
        unsure: str = 'unbiased',
        avg_non_ignore: bool = False,
        loss_name: str = 'loss_self_labels',
    ) -> None:
        super().__init__(loss_weight, avg_non_ignore, loss_name)
        if unsure not in UNSURES:
            raise InputError(
                f'SelfLabelCrossEntropyLoss: unsure must be one of {UNSURES}, got {unsure!r}'
            )
        self.unsure = unsure
        self._num_hidden = 0
        self._hidden: Tensor | None = None
        self._maps: Tensor | None = None

    def set_step(self, step: StepContext) -> None:
        """Take the step, which says how many classes hide in the background."""
        self._num_hidden = step.num_hidden

    def receive_hidden(self, hidden: Tensor | None) -> None:
        """Take the classes ``(N, C)`` that hide in each image; None: the step's rule."""
        self._hidden = hidden

    def receive_samples(self, samples: SampleList) -> None:
        """Take the maps of the batch.

        Raises:
            InputError: The pipeline reads no maps of self-labels.
        """
        self._maps = None
        if not self._num_hidden:
            return
        maps = [sample.gt_edge_map.data if 'gt_edge_map' in sample else None for sample in samples]
        found = next((label_map for label_map in maps if label_map is not None), None)
        if found is None:
            raise InputError(
                'SelfLabelCrossEntropyLoss reads self-labels, and the training pipeline has none: '
                "set method.further_map=dict(type='SelfLabelMap')"
            )
        # Images that a generator draws have no map.
        nothing = torch.full_like(found, UNSURE)
        self._maps = torch.cat(
            [nothing if label_map is None else label_map for label_map in maps]
        ).long()

    def cuts(self) -> tuple[int, ...]:
        """Return the number of hidden classes, which are a group."""
        return (self._num_hidden,)

    def per_pixel(self, pixels: PixelLogits) -> tuple[Tensor, Tensor]:
        """See :meth:`DecodeLoss.per_pixel`.

        Raises:
            InputError: The head's labels have another shape than the self-labels.
        """
        assert pixels.labels is not None
        if self._maps is None:
            return shared_unbiased_cross_entropy(pixels, self._num_hidden), pixels.ignored
        if self._maps.shape != pixels.labels.shape:
            raise InputError(
                f'SelfLabelCrossEntropyLoss has self-labels of shape {tuple(self._maps.shape)} and '
                f'labels of shape {tuple(pixels.labels.shape)}: a head that learns from points, or '
                'self-supervision, changes the labels alone; take another decode head, or leave '
                'it out'
            )
        labels = pixels.labels.masked_fill(pixels.ignored, 255)
        sure, unsure = self._told_apart(labels, self._maps)
        completed = torch.where(sure, self._maps.to(labels.dtype), labels)
        if self.unsure == 'ignore':
            completed = completed.masked_fill(unsure, 255)
        shared = PixelLogits(
            pixels.logits, completed, self.cuts(), align_corners=pixels.grid.align_corners
        )
        loss = shared_unbiased_cross_entropy(shared, 0)
        if self.unsure == 'unbiased':
            # (N, H, W): log-sum-exp of the classes that the label of an unsure pixel stands for.
            if self._hidden is None:
                background = shared.logsumexp(0, self._num_hidden)
            else:
                background = shared.logsumexp_among(self._hidden)
            loss = torch.where(unsure, shared.logsumexp() - background, loss)
        return loss, shared.ignored

    def _told_apart(self, labels: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixels ``(N, H, W)`` that self-labels complete, and those that stay open."""
        if self._hidden is None:
            open_to_old = labels < self._num_hidden
            return open_to_old & (maps != UNSURE), open_to_old & (maps == UNSURE)
        # A class that the labels of an exemplar show cannot hide in its background.
        said = maps.masked_fill(maps == UNSURE, 0).flatten(1)
        possible = (maps != UNSURE) & self._hidden.gather(1, said).view_as(maps)
        hides = self._hidden[:, 1 : self._num_hidden].any(dim=1)[:, None, None]
        open_to_old = label_is_hidden(labels, self._hidden) & hides
        return open_to_old & possible, open_to_old & ~possible
