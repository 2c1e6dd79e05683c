"""The pass over a step's images that chooses what new rows are made of."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from mmengine.dist import all_reduce
from mmengine.runner import Runner
from torch import Tensor
from torch.nn import functional

from mmseg_cil.contracts import DataBatch, StepHook, network_of
from mmseg_cil.hooks.step_images import prepared, step_batches
from mmseg_cil.losses.cells import at_cells
from mmseg_cil.methods.nest.classifier import PreTunedClassifier, classifying_heads
from mmseg_cil.methods.nest.transfer import importance_sums, mean_importance, mixing_of
from mmseg_cil.models.heads import classifier_holder, classifier_of
from mmseg_cil.models.network_output import run_heads
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.values import check_number


@HOOKS.register_module()
class ChannelSelectionHook(StepHook):
    """Sets what new rows are made of before the first iteration of NeST's pre-tuning.

    The sub-step :class:`~mmseg_cil.methods.nest.sub_step.PreTuneClassifier` adds the hook. One pass
    over images of the step, without exemplars, with the last step's network in evaluation mode,
    gives the importance of each old row and channel for each new class, in the decode head and each
    auxiliary head. Every process takes a part of the images. An image is augmented by a seed of its
    own, so the result depends neither on the number of processes nor on workers. A pre-tuning that
    is resumed has the result in its state.

    Args:
        grid: Side of the square grid to which embedding, logits and labels are brought.
        max_images: The most images to use, spread evenly over the step's images. None: all.

    Raises:
        InputError: A number is not positive.
    """

    # The hook acts before hooks that copy the weights when training begins (EMAHook).
    priority = 'HIGH'
    rehearsed = True

    def __init__(self, grid: int = 128, max_images: int | None = 2000) -> None:
        check_number(self, 'grid', grid, least=1, whole=True)
        if max_images is not None:
            check_number(self, 'max_images', max_images, least=1, whole=True)
        self.grid, self.max_images = grid, max_images

    def before_train(self, runner: Runner) -> None:
        """Choose, unless the pre-tuning goes on after a break."""
        model = network_of(runner)
        if runner.iter > 0 or not isinstance(model, IncrementalEncoderDecoder):
            return
        found = class_importance(model, step_batches(runner, self.max_images), self.grid)
        num_old = model.step.num_old
        for name, (sums, counts) in found.items():
            classifier = classifier_holder(classifying_heads(model)[name]).conv_seg
            assert isinstance(classifier, PreTunedClassifier)
            with torch.no_grad():
                classifier.importance.copy_(mean_importance(sums, counts))
                classifier.mixing.copy_(mixing_of(classifier.importance))
            empty = [num_old + k for k, count in enumerate(counts.tolist()) if not count]
            if empty:
                runner.logger.warning(
                    f'NeST: no image shows the new classes {empty} (model ids) to {name}, so their '
                    'rows begin as that of the background'
                )


def class_importance(
    model: IncrementalEncoderDecoder, batches: Iterable[DataBatch], grid: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each head's :func:`~mmseg_cil.methods.nest.transfer.importance_sums` of some images.

    Embedding and logits are resized bilinearly, labels by nearest neighbour. Sums are in float64
    and over all processes.

    Args:
        model: Segmentor at a step with K new classes, after a step that trained.
        batches: This process's collated samples with ``gt_sem_seg`` in model ids. With several
            processes every process must call this function, even without a batch.
        grid: Side of the grid.

    Returns:
        For every head by name: sums ``(K, O, D)`` and numbers of cells ``(K,)``, float64.
    """
    device = next(model.parameters()).device
    network = model.previous_network().network.to(device)
    num_new, size = model.step.num_new, (grid, grid)
    rows = {
        name: classifier_of(head).weight.flatten(1).float()
        for name, head in classifying_heads(network).items()
    }
    totals = {
        name: (
            weight.new_zeros(num_new, *weight.shape, dtype=torch.float64),
            weight.new_zeros(num_new, dtype=torch.float64),
        )
        for name, weight in rows.items()
    }
    with torch.no_grad():
        for batch in batches:
            inputs, labels = prepared(model, batch)
            cells = at_cells(labels.squeeze(1), size)
            features = network.extract_feat(inputs)
            for name, tap in run_heads(network, features).items():
                assert tap.embedding is not None and tap.logits is not None
                embedding, logits = (
                    functional.interpolate(maps.float(), size, mode='bilinear', align_corners=False)
                    for maps in (tap.embedding, tap.logits)
                )
                found = importance_sums(
                    embedding, logits.softmax(dim=1), cells, rows[name], num_new
                )
                for total, values in zip(totals[name], found, strict=True):
                    total += values
    for sums, counts in totals.values():
        all_reduce(sums)
        all_reduce(counts)
    return totals
