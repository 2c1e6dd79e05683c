"""Imprinting: the rows of new classes begin as the mean embeddings of these classes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from mmengine.dist import all_reduce
from mmengine.runner import Runner
from mmseg.models.decode_heads import PointHead
from torch import Tensor
from torch.nn import functional

from mmseg_cil.contracts import DataBatch, StepHook, network_of
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.class_sums import sums_of_classes
from mmseg_cil.hooks.step_images import prepared, step_batches
from mmseg_cil.models.classifier import ImprintedRows, find_classifier_init, imprinted_rows
from mmseg_cil.models.heads import classifier_of
from mmseg_cil.models.network_output import run_heads
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import HOOKS


@HOOKS.register_module()
class ImprintClassifierHook(StepHook):
    """A hook that replaces the rows of new classes before a step's first iteration.

    The hook acts only where the segmentor's ``classifier_init`` is 'imprinted', at
    a step after step 0 that has new classes and that is not resumed. One pass over
    images of the step, in evaluation mode and without gradients, gives the mean
    embedding of every new class, for the decode head and each auxiliary head;
    :func:`~mmseg_cil.models.classifier.imprinted_rows` makes rows of the embeddings.
    Further classifiers of a head (``DAHead``, ``EncHead``, ``PointHead``) keep their
    random rows. Rows of self-supervision begin as copies of the imprinted rows. Every
    process takes a part of the images. An image is augmented by a seed of its own,
    so the rows depend neither on the number of processes nor on workers, and the
    random streams of training are left as they were.

    Args:
        max_images: The most images to use, spread evenly over the step's images. This
            number is our choice. None: all. Defaults to 1000.

    Raises:
        InputError: ``max_images`` is not positive.
    """

    # The hook acts before hooks that copy the weights when training begins (EMAHook).
    priority = 'HIGH'
    rehearsed = True

    def __init__(self, max_images: int | None = 1000) -> None:
        if max_images is not None and max_images < 1:
            raise InputError(
                f'ImprintClassifierHook: max_images must be positive or None, got {max_images}'
            )
        self.max_images = max_images

    def before_train(self, runner: Runner) -> None:
        """Imprint the new rows, where there is something to imprint."""
        model = network_of(runner)
        if not isinstance(model, IncrementalEncoderDecoder):
            return
        new_step = runner.iter == 0 and model.step.index > 0 and model.step.num_new > 0
        if new_step and isinstance(find_classifier_init(model.classifier_init), ImprintedRows):
            imprint(model, step_batches(runner, self.max_images))


def imprint(model: IncrementalEncoderDecoder, batches: Iterable[DataBatch]) -> None:
    """Imprint the new rows of every head of a segmentor, in place.

    Args:
        model: Segmentor at a step with old and new classes.
        batches: This process's collated samples, for the data preprocessor. With
            several processes, every process must call this, even without a batch.
    """
    step = model.step
    for name, (sums, counts) in embedding_sums(model, batches).items():
        all_reduce(sums)
        all_reduce(counts)
        classifier = classifier_of(model.heads[name])
        # Every classifier of a head that can grow has a bias.
        assert classifier.bias is not None
        with torch.no_grad():
            weight, bias = imprinted_rows(
                classifier.weight, classifier.bias, sums, counts, step.num_old, step.has_background
            )
            classifier.weight.copy_(weight)
            classifier.bias.copy_(bias)
    if model.self_supervision is not None:
        # The rows of the other turns are copies of these rows, made before the imprinting.
        model.self_supervision.begin(model.heads)


def embedding_sums(
    model: IncrementalEncoderDecoder, batches: Iterable[DataBatch]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the sums of unit-length embeddings over the pixels of every new class.

    Labels are resized to the embedding's size by nearest neighbour. The model
    runs in evaluation mode without gradients and is put back into its mode.

    Args:
        model: Segmentor at a step with K new classes.
        batches: Collated samples with ``gt_sem_seg`` in model ids.

    Returns:
        For every head by name: sums ``(K, D)`` and pixel counts ``(K,)``, float64.
    """
    num_old, num_new = model.step.num_old, model.step.num_new
    totals = {}
    for name, head in model.heads.items():
        if isinstance(head, PointHead):
            continue
        weight = classifier_of(head).weight
        zeros = torch.zeros(num_new, weight.shape[1] + 1, dtype=torch.float64)
        totals[name] = zeros.to(weight.device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for batch in batches:
            inputs, labels = prepared(model, batch)
            features = model.extract_feat(inputs)
            for name, tap in run_heads(model, features).items():
                assert tap.embedding is not None
                units = functional.normalize(tap.embedding.float(), dim=1)
                totals[name] += sums_of_classes(units, labels, range(num_old, num_old + num_new))
    model.train(was_training)
    return {
        name: (total[:, :-1].contiguous(), total[:, -1].contiguous())
        for name, total in totals.items()
    }
