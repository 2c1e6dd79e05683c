"""Hard self-labels: the network's predicted class, at pixels where the network is sure."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.runner import Runner
from torch import Tensor

from mmseg_cil.contracts import network_of
from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_statistics import Grid
from mmseg_cil.methods.plop.pseudo_labels import (
    NUM_BINS,
    predicted_with_uncertainty,
    thresholds_from_histograms,
    uncertainty_histograms,
)
from mmseg_cil.methods.self_labels.files import LabelFolder
from mmseg_cil.methods.self_labels.labelling import LabellingHook, Writer, own_images, predicted
from mmseg_cil.methods.self_labels.reference import UNSURE
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.models.teacher import Teacher
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.step_context import StepContext
from mmseg_cil.utils.values import check_number


@HOOKS.register_module()
class SelfLabelsHook(LabellingHook):
    """Labels pixels of a step's images with the network's predicted class, where it is sure.

    See :class:`LabellingHook` for the network and for the folder of the labels. The network is
    sure of a pixel if its uncertainty (the entropy as a share of the greatest entropy) is below
    the threshold of the predicted class. As in PLOP, the threshold of a class is the median
    uncertainty of the pixels that are labelled background and predicted as this class, over the
    step's images. Exemplars do not count in the thresholds.

    The hook acts at steps after the first one that trained, if the step's labels hide old classes.

    Args:
        base: The least threshold, a share of the greatest entropy. Defaults to 0.001, as in PLOP.

    Raises:
        InputError: ``base`` is negative.
    """

    def __init__(self, base: float = 0.001) -> None:
        check_number(self, 'base', base)
        self.base = base

    def acts(self, step: StepContext) -> bool:
        """Return whether old classes hide in a step's labels."""
        return super().acts(step) and step.num_hidden > 0

    def settings(self, step: StepContext) -> dict[str, Any]:
        """See :meth:`LabellingHook.settings`."""
        if step.num_old > UNSURE:
            raise InputError(
                f'SelfLabelsHook knows {UNSURE} old classes at most, and step {step.index} has '
                f'{step.num_old}: a map of labels has a byte a pixel'
            )
        return dict(kind='hard', base=self.base, classes=step.num_old)

    def writer(self, runner: Runner, network: Teacher, folder: LabelFolder) -> Writer:
        """See :meth:`LabellingHook.writer`; a pass over the images first finds the thresholds."""
        model = network_of(runner)
        assert isinstance(model, IncrementalEncoderDecoder)
        step, device = model.step, next(model.parameters()).device
        counts = torch.zeros(step.num_seen, NUM_BINS['true'], dtype=torch.int64, device=device)
        for _, logits, labels in predicted(runner, network, own_images(runner)):
            counts += uncertainty_histograms(logits, labels, step.num_seen, 'true')
        all_reduce(counts)
        thresholds = thresholds_from_histograms(counts.cpu(), step.num_old, self.base)
        runner.logger.info(
            'self-labels: a class is sure below the uncertainty '
            f'{[round(value, 4) for value in thresholds.tolist()]}'
        )
        limits = thresholds.to(device)

        def write(path: str, logits: Tensor) -> None:
            folder.write(path, sure_labels(logits, limits)[0].cpu().numpy())

        return write


def sure_labels(logits: Tensor, thresholds: Tensor) -> Tensor:
    """Return the predicted classes, or 255 where the uncertainty is not below the threshold.

    Args:
        logits: ``(N, O, H, W)``.
        thresholds: ``(C,)``, of old and new classes.

    Returns:
        uint8 ``(N, H, W)``.
    """
    size = int(logits.shape[2]), int(logits.shape[3])
    classes, uncertain = predicted_with_uncertainty(logits, Grid(size))
    return classes.masked_fill(uncertain >= thresholds[classes], UNSURE).to(torch.uint8)
