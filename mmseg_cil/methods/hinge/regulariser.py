"""The hinge on the rows of new classes, as a regulariser."""

from __future__ import annotations

import torch
from mmseg.models.decode_heads import IterativeDecodeHead
from torch import Tensor, nn
from torch.nn import functional

from mmseg_cil.contracts import Regulariser
from mmseg_cil.errors import InputError
from mmseg_cil.methods.hinge.class_means import ClassMeans
from mmseg_cil.models.heads import main_classifier, main_head
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_choice, check_number, check_weights

#: Values of the argument ``against`` of :class:`HingeRegulariser`.
AGAINST = ('own', 'greatest')


class ClassMeansReader(Regulariser):
    """A regulariser that ``ClassMeansHook`` gives mean embeddings: a contract of this method."""

    #: Type of the hook that gives the means. A walk without this hook is refused.
    needs_hook = 'ClassMeansHook'

    def set_class_means(self, means: ClassMeans | None, network: nn.Module) -> None:
        """Take the means that earlier steps kept, before training.

        Args:
            means: Means of all classes of earlier steps that trained; None if no step trained.
            network: The segmentor, on its device.
        """


@MODELS.register_module()
class HingeRegulariser(ClassMeansReader):
    r"""Penalises new classes that score above an earlier class at that class's mean embedding.

    .. math:: \frac{\lambda}{J} \sum_j \max(0,
              \log \sum_{k\,new} e^{z_k(m_j)} - z_j(m_j) + margin)^2

    With ``against='greatest'`` the greatest logit of the new classes must stay below the greatest
    logit of all earlier classes at :math:`m_j`, so that no new class is predicted there. The two
    forms differ where a step brings several classes, whose log-sum-exp is above the greatest of
    them, and where the network takes :math:`m_j` for another class, as it does where class j is
    hardly learnt: its own logit is low there.

    The sum is over the J earlier classes with a kept mean :math:`m_j`: those of the foreground, and
    the background if ``background`` is set. A class with several means has the mean of their terms,
    weighted by their numbers of cells. The loss needs no image, label or network of earlier steps,
    and trains the classifier alone: the means are constants, computed by the network that the
    class's own step left, while the embedding drifts. At a step without new classes, or without
    earlier ones that count, there is nothing to penalise. The loss is computed in float32.

    Source: ours.

    Args:
        loss_weight: Lambda. Defaults to 0.1. With 1 and a mean a class, new classes were never
            predicted; with 32 means a class they were learnt less well than with 0.1 and 0.3.
        margin: Distance by which the earlier logit is to exceed the score of the new classes, see
            ``against``. Defaults to 1.
        background: Whether the background is an earlier class, too. Its only mean lies between many
            kinds of things, so give ``ClassMeansHook`` some (``background=32``). Defaults to False.
        against: The logit that new classes must stay below: 'own', or 'greatest', see above.
            Defaults to 'own'.
        loss_name: Name in the log. Defaults to 'loss_hinge'.

    Raises:
        InputError: A number is out of range, or ``against`` is unknown.
    """

    def __init__(
        self,
        loss_weight: float = 0.1,
        margin: float = 1.0,
        background: bool = False,
        against: str = 'own',
        loss_name: str = 'loss_hinge',
    ) -> None:
        super().__init__()
        check_weights(self, loss_weight=loss_weight)
        check_choice(self, 'against', against, AGAINST)
        check_number(self, 'margin', margin)
        self.loss_weight = loss_weight
        self.margin = margin
        self.background = background
        self.against = against
        self.loss_name = loss_name
        self._step: StepContext | None = None
        self._is_set = False
        # The means are neither parameters nor buffers: the steps' files hold them.
        self._means: Tensor | None = None
        self._classes: Tensor | None = None
        self._shares: Tensor | None = None

    def set_step(self, step: StepContext) -> None:
        """Take the classes of the step."""
        self._step = step

    def attach(self, network: nn.Module) -> None:
        """Check that rows and bias of the classifier make the logits from the embedding.

        Raises:
            InputError: The classifier's kernel is not 1x1, or the head is an iterative one
                (K-Net), whose kernels change.
        """
        name, classifier = main_classifier(network)
        size = tuple(classifier.kernel_size)
        if isinstance(main_head(network)[1], IterativeDecodeHead) or size != (1, 1):
            raise InputError(
                f'HingeRegulariser: {name} does not make the logits of a pixel from its embedding '
                "alone (K-Net's kernels change, and others look at neighbours): use a head whose "
                'classifier conv_seg is 1x1, or leave the hinge out (vdfd_plain has none)'
            )

    def set_class_means(self, means: ClassMeans | None, network: nn.Module) -> None:
        """Take the means of earlier classes; the background's only if they are asked for.

        Raises:
            InputError: The means have another length than the network's embedding.
        """
        assert self._step is not None
        self._is_set = True
        self._means = self._classes = None
        first = 1 if self._step.has_background and not self.background else 0
        places = [
            place
            for place, model_id in enumerate(means.classes if means else ())
            if first <= model_id < self._step.num_old
        ]
        if means is None or not places or not self._step.num_new:
            return
        weight = main_classifier(network)[1].weight
        if means.means.shape[1] != weight.shape[1]:
            raise InputError(
                f'the mean embeddings of earlier steps have {means.means.shape[1]} numbers, the '
                f'embedding of this network has {weight.shape[1]}: the network must not change '
                'between steps'
            )
        self._means = means.means[places].to(weight)  # (J, D)
        classes = [means.classes[place] for place in places]
        self._classes = torch.tensor(classes, device=weight.device)  # (J,)
        # Classes count alike; the means of a class count by their cells.
        cells = means.pixels[places].to(weight)  # (J,)
        of_classes = weight.new_zeros(self._step.num_old)
        of_classes.index_add_(0, self._classes, cells)
        self._shares = cells / of_classes[self._classes] / len(set(classes))

    def forward(self, network: nn.Module) -> dict[str, Tensor]:
        """Return the loss at the network's current weights, a scalar; nothing without means.

        Raises:
            RuntimeError: :meth:`set_class_means` was not called.
        """
        if not self._is_set:
            raise RuntimeError(
                'HingeRegulariser was not given the mean embeddings of earlier classes: the method '
                'needs a ClassMeansHook among its custom_hooks'
            )
        if self._means is None or self._classes is None or self._shares is None:
            return {}
        assert self._step is not None
        _, classifier = main_classifier(network)
        with torch.autocast(self._means.device.type, enabled=False):
            # (J, C): logits of all classes at each mean of an earlier class.
            logits = functional.linear(self._means, classifier.weight.flatten(1), classifier.bias)
            # Both (J,): the score of the new classes, and the logit that it must stay below.
            new = logits[:, self._step.num_old : self._step.num_seen]
            if self.against == 'own':
                score = new.logsumexp(dim=1)
                kept = logits.gather(1, self._classes[:, None]).squeeze(1)
            else:
                score, kept = new.amax(dim=1), logits[:, : self._step.num_old].amax(dim=1)
            excess = (score - kept + self.margin).clamp(min=0)
        return {self.loss_name: self.loss_weight * (self._shares * excess.square()).sum()}
