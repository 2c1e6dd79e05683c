"""The losses of a head from logits that they share with distillation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from mmseg.models.decode_heads import PointHead
from mmseg.models.decode_heads.cascade_decode_head import BaseCascadeDecodeHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.utils import SampleList
from torch import Tensor, nn

from mmseg_cil.contracts import ComparisonLoss, HeadLoss, PixelLoss
from mmseg_cil.contracts.check import check_part, overrides
from mmseg_cil.errors import InputError
from mmseg_cil.losses.kept_losses import SummedLoss
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.models.heads import classifier_holder
from mmseg_cil.utils.step_context import StepContext

#: Heads that an error message proposes if a head cannot grow.
GROWING = '(ASPPHead, DepthwiseSeparableASPPHead, PSPHead, FCNHead, UPerHead, SegformerHead, ...)'


def stack_labels(data_samples: SampleList) -> Tensor:
    """Return the labels ``(N, H, W)`` of a batch."""
    return torch.stack([sample.gt_sem_seg.data for sample in data_samples]).squeeze(1)


def has_own_losses(head: BaseDecodeHead) -> bool:
    """Return whether a head computes its losses in a way of its own, or samples pixels.

    Such a head computes its losses itself; :func:`head_losses` computes those of all other
    heads.
    """
    kind = type(head)
    return (
        getattr(kind, 'loss', None) not in (BaseDecodeHead.loss, BaseCascadeDecodeHead.loss)
        or getattr(kind, 'loss_by_feat', None) is not BaseDecodeHead.loss_by_feat
        or getattr(head, 'sampler', None) is not None
    )


def loss_modules(head: nn.Module) -> list[nn.Module]:
    """Return the losses of a head, one or several."""
    losses: nn.Module = classifier_holder(head).loss_decode
    return list(losses) if isinstance(losses, nn.ModuleList) else [losses]


def teacher_readers(network: nn.Module) -> list[HeadLoss]:
    """Return the losses of a network, or of a head, that receive the teacher's outputs."""
    return [
        module
        for module in network.modules()
        if isinstance(module, HeadLoss) and overrides(module, HeadLoss.receive_teacher)
    ]


def check_head(name: str, head: nn.Module, step: StepContext) -> None:
    """Refuse a head that does not fit a step.

    Args:
        name: Name of the head.
        head: Decode head or auxiliary head.
        step: Step whose classes the head predicts.

    Raises:
        InputError: The head has no ``conv_seg`` with bias, another number of outputs
            than the step has classes, a loss that compares two networks, or a loss with a
            name that no contract knows.
    """
    classifier = getattr(classifier_holder(head), 'conv_seg', None)
    if not isinstance(head, PointHead):
        if not isinstance(classifier, nn.Conv2d) or classifier.bias is None:
            raise InputError(
                f'{name} ({type(head).__name__}) has no convolution conv_seg with bias as its '
                f'classifier, so it cannot grow: use a head that classifies with conv_seg '
                f'{GROWING}'
            )
        if classifier.out_channels != step.num_seen:
            raise InputError(
                f'{name} has {classifier.out_channels} outputs, but step '
                f'{step.index} has {step.num_seen} classes: leave num_classes of the heads to the '
                'walk'
            )
    for loss in loss_modules(head):
        if isinstance(loss, ComparisonLoss):
            raise InputError(
                f'{name}.loss_decode: {type(loss).__name__} compares student with '
                'teacher: it belongs into the loss of a distiller, '
                "method.distillers=[dict(type='LogitDistiller', loss=...)]"
            )
        check_part(loss, PixelLoss, f'{name}.loss_decode')
        if step.num_hidden and not step.has_background:
            _check_knows_hidden(loss, f'{name}.loss_decode')


def _check_knows_hidden(loss: nn.Module, where: str) -> None:
    """Refuse a loss that would take "one of the old classes" for the class 0."""
    parts = loss.losses if isinstance(loss, SummedLoss) else [loss]
    for part in parts:
        if not getattr(part, 'knows_hidden_classes', False):
            raise InputError(
                f'{where}: {type(part).__name__} takes the label 0 for the first class, and '
                "protocol.policy.unlabelled='old' says that it stands for all old classes: set it "
                "to 'void', or use a method whose loss knows of hidden classes (mib, plop, rcil, "
                'vdfd)'
            )


def pixels_of(
    head: BaseDecodeHead,
    logits: Tensor,
    labels: Tensor,
    cuts: Sequence[int] = (),
    replayed: int = 0,
) -> PixelLogits:
    """Return a head's logits at the pixels of the labels.

    Args:
        head: Head whose losses say which groups of classes they need.
        logits: ``(N, C, h, w)``, output of the head.
        labels: ``(N, H, W)`` model ids or the head's ``ignore_index``.
        cuts: Class indices at which groups begin and end that distillation needs.
        replayed: Number of generated images at the end of the batch.
    """
    wanted = [loss.cuts() for loss in loss_modules(head) if isinstance(loss, PixelLoss)]
    return PixelLogits(
        logits,
        labels,
        [*cuts, *(cut for each in wanted for cut in each)],
        align_corners=head.align_corners,
        ignore_index=head.ignore_index,
        replayed=replayed,
    )


def head_losses(head: BaseDecodeHead, pixels: PixelLogits) -> dict[str, Tensor]:
    """Compute losses and accuracy of a head, as ``BaseDecodeHead.loss_by_feat`` defines them.

    Unlike ``loss_by_feat``, losses that can do without the enlarged logits do so, and the
    accuracy does not make the device wait for the number of pixels.

    Args:
        head: Head with ``loss_decode``, one loss or several.
        pixels: Pixels from :func:`pixels_of`.

    Returns:
        Scalars under the losses' names (losses of one name are summed) and ``acc_seg``.
    """
    losses: dict[str, Tensor] = {}
    for module in loss_modules(head):
        if isinstance(module, PixelLoss):
            loss = module.of_pixels(pixels)
        else:
            loss = module(
                pixels.upsampled, pixels.labels, weight=None, ignore_index=pixels.ignore_index
            )
        name = str(module.loss_name)
        losses[name] = losses[name] + loss if name in losses else loss
    losses['acc_seg'] = pixels.accuracy()
    return losses


def summed_losses(parts: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return losses by name; losses of the same name are summed."""
    losses: dict[str, Tensor] = {}
    for part in parts:
        for name, loss in part.items():
            losses[name] = losses[name] + loss if name in losses else loss
    return losses
