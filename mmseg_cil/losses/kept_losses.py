"""Losses of a user's model that a method keeps beside its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmseg_cil.contracts import HeadLoss
from mmseg_cil.losses.hidden_classes import label_is_hidden
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext

#: A logit whose probability is 0 in every number format.
_NEVER = -1e4


class _AroundLoss(HeadLoss, nn.Module):
    """A loss around another one, told by the segmentor what the labels of a step hide.

    Args:
        loss: Config of the inner loss.
    """

    knows_hidden_classes = True

    def __init__(self, loss: dict) -> None:
        super().__init__()
        self.loss = MODELS.build(loss)
        self._num_hidden = 0
        self._has_background = True
        self._hidden: Tensor | None = None

    @property
    def loss_name(self) -> str:
        """Name under which the head logs and sums this loss."""
        return str(self.loss.loss_name)

    def set_step(self, step: StepContext) -> None:
        """Told by the segmentor which classes hide in the background."""
        self._num_hidden = step.num_hidden
        self._has_background = step.has_background

    def receive_hidden(self, hidden: Tensor | None) -> None:
        """Told by the segmentor what hides in which image, ``(N, C)``; None: the step's rule."""
        self._hidden = hidden

    def _mask(self, outputs: Tensor) -> Tensor:
        """Bool ``(N, C)``: the outputs that the label 0 may stand for, itself included."""
        if self._hidden is not None:
            return self._hidden[:, : outputs.shape[1]]
        mask = torch.arange(outputs.shape[1], device=outputs.device) < self._num_hidden
        return mask.expand(len(outputs), -1)


@MODELS.register_module()
class MergedBackgroundLoss(_AroundLoss):
    """A loss such as Dice or Lovasz on labels that call old classes background.

    Where the labels of a step hide old classes, their probabilities are added to that
    of the background before the loss sees them, as MiB's unbiased cross-entropy does
    (our choice): so the loss says of a pixel of the background that it shows the
    background or any old class, and does not teach the network to forget. Where
    nothing hides it is the loss itself.

    Args:
        loss: Config of a loss called with logits ``(N, C, H, W)`` and labels
            ``(N, H, W)``, as MMSegmentation's are.
    """

    def forward(self, logits: Tensor, labels: Tensor, *args: object, **kwargs: object) -> Tensor:
        """The inner loss.

        Args:
            logits: ``(N, C, H, W)``.
            labels: ``(N, H, W)`` model ids, 255 ignored.
            *args: Further arguments of the inner loss.
            **kwargs: The same by name.
        """
        if self._num_hidden > 1 or self._hidden is not None:
            hidden = self._mask(logits)
            labels = labels.masked_fill(label_is_hidden(labels, hidden), 0)
            inside = hidden[..., None, None]
            background = logits.masked_fill(~inside, -torch.inf).logsumexp(dim=1, keepdim=True)
            rest = logits.masked_fill(inside, _NEVER)[:, 1:]
            logits = torch.cat([background, rest], dim=1)
        result: Tensor = self.loss(logits, labels, *args, **kwargs)
        return result


@MODELS.register_module()
class VisibleClassesLoss(_AroundLoss):
    """EncNet's loss of the presence of classes, without those that the labels of a step hide.

    Labels that call old classes background do not say whether an image shows one.

    Args:
        loss: Config of a ``CrossEntropyLoss`` with ``use_sigmoid=True``.
    """

    #: The label of a class that MMSegmentation's binary cross-entropy leaves out.
    _UNKNOWN = -100

    def forward(self, logits: Tensor, presence: Tensor, *args: object, **kwargs: object) -> Tensor:
        """The inner loss.

        Args:
            logits: ``(N, C)``.
            presence: ``(N, C)``, 1 for the classes that the labels of an image show.
            *args: Further arguments of the inner loss.
            **kwargs: The same by name.
        """
        if self._num_hidden > 1 or self._hidden is not None:
            hidden = self._mask(logits).clone()
            if self._has_background:
                hidden[:, 0] = False
            presence = presence.masked_fill(hidden, self._UNKNOWN)
        result: Tensor = self.loss(logits, presence, *args, **kwargs)
        return result


@MODELS.register_module()
class SummedLoss(nn.Module):
    """Several losses as one, for heads that find their losses by their place in a list.

    Args:
        losses: Configs of the losses; the first gives its name.
    """

    def __init__(self, losses: Sequence[dict]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(MODELS.build(loss) for loss in losses)

    @property
    def loss_name(self) -> str:
        """Name under which the head logs this loss."""
        return str(self.losses[0].loss_name)

    def forward(self, logits: Tensor, labels: Tensor, *args: object, **kwargs: object) -> Tensor:
        """The sum of the losses."""
        return torch.stack([loss(logits, labels, *args, **kwargs) for loss in self.losses]).sum()
