"""Wrappers for losses of a user's model that a method keeps besides its own losses."""

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
    """A wrapper of a loss that gets the classes hidden by a step's labels from the segmentor.

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
        """Take the step, which says how many classes hide in the background."""
        self._num_hidden = step.num_hidden
        self._has_background = step.has_background

    def receive_hidden(self, hidden: Tensor | None) -> None:
        """Take the classes ``(N, C)`` that hide in each image; None: the step's rule."""
        self._hidden = hidden

    def _mask(self, outputs: Tensor) -> Tensor:
        """Return the outputs that label 0 may stand for, output 0 included, bool ``(N, C)``."""
        if self._hidden is not None:
            return self._hidden[:, : outputs.shape[1]]
        mask = torch.arange(outputs.shape[1], device=outputs.device) < self._num_hidden
        return mask.expand(len(outputs), -1)


@MODELS.register_module()
class MergedBackgroundLoss(_AroundLoss):
    """A loss such as Dice or Lovasz on labels that call old classes background.

    If the labels of a step hide old classes, the probabilities of these classes are added to
    that of the background before the inner loss, as in MiB's unbiased cross-entropy
    (our choice). A pixel labelled background then counts as background or any old class,
    and the loss does not teach the network to forget. If no class is hidden, the result is
    the inner loss itself.

    Args:
        loss: Config of a loss called with logits ``(N, C, H, W)`` and labels
            ``(N, H, W)``, like the losses of MMSegmentation.
    """

    def forward(self, logits: Tensor, labels: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Compute the inner loss, with hidden classes merged into the background.

        Args:
            logits: ``(N, C, H, W)``.
            labels: ``(N, H, W)`` model ids, 255 ignored.
            *args: Further positional arguments of the inner loss.
            **kwargs: Further keyword arguments of the inner loss.
        """
        if self._num_hidden > 1 or self._hidden is not None:
            hidden = self._mask(logits)
            labels = labels.masked_fill(label_is_hidden(labels, hidden), 0)
            inside = hidden[..., None, None]  # (N, C, 1, 1)
            # (N, 1, H, W): log of the summed exponentials of background and hidden classes.
            background = logits.masked_fill(~inside, -torch.inf).logsumexp(dim=1, keepdim=True)
            # (N, C - 1, H, W): the hidden classes have probability 0.
            rest = logits.masked_fill(inside, _NEVER)[:, 1:]
            logits = torch.cat([background, rest], dim=1)
        result: Tensor = self.loss(logits, labels, *args, **kwargs)
        return result


@MODELS.register_module()
class VisibleClassesLoss(_AroundLoss):
    """EncNet's loss on the presence of classes, without classes hidden by a step's labels.

    Labels that call old classes background do not say whether an image shows an old class.

    Args:
        loss: Config of a ``CrossEntropyLoss`` with ``use_sigmoid=True``.
    """

    #: The label of a class that MMSegmentation's binary cross-entropy leaves out.
    _UNKNOWN = -100

    def forward(self, logits: Tensor, presence: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Compute the inner loss, without the hidden classes.

        Args:
            logits: ``(N, C)``.
            presence: ``(N, C)``, 1 for the classes that the labels of an image show.
            *args: Further positional arguments of the inner loss.
            **kwargs: Further keyword arguments of the inner loss.
        """
        if self._num_hidden > 1 or self._hidden is not None:
            hidden = self._mask(logits).clone()  # (N, C) bool
            if self._has_background:
                hidden[:, 0] = False
            presence = presence.masked_fill(hidden, self._UNKNOWN)
        result: Tensor = self.loss(logits, presence, *args, **kwargs)
        return result


@MODELS.register_module()
class SummedLoss(nn.Module):
    """Several losses as one, for heads that find their losses by their place in a list.

    Args:
        losses: Configs of the losses; the sum has the name of the first loss.
    """

    def __init__(self, losses: Sequence[dict]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(MODELS.build(loss) for loss in losses)

    @property
    def loss_name(self) -> str:
        """Name under which the head logs this loss."""
        return str(self.losses[0].loss_name)

    def forward(self, logits: Tensor, labels: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Return the sum of the losses."""
        return torch.stack([loss(logits, labels, *args, **kwargs) for loss in self.losses]).sum()
