"""The trial of a few test images with pipeline, network and metric."""

from __future__ import annotations

import time
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner.amp import autocast
from PIL import Image

from mmseg_cil.contracts import network_of
from mmseg_cil.engine.preflight.failures import phase
from mmseg_cil.engine.preflight.look_at_batch import check_test_batch
from mmseg_cil.errors import InputError

#: Seconds for reading the sizes of test images.
PATIENCE = 1.0
#: The most test images that a trial predicts.
MOST = 4


def test_few(runner: Any, where: str) -> None:
    """Predict and score a few test images of a step, of different sizes where there are any.

    Args:
        runner: Runner of the step, whose network is plain.
        where: Name of the step, for messages.

    Raises:
        RehearsalError: The trial failed.
    """
    with phase(where, 'reading a test batch'):
        loop = runner._test_loop = runner.build_test_loop(runner._test_loop)
        dataset: Any = loop.dataloader.dataset
        if not len(dataset):
            return
        batches = _batches(dataset, loop.dataloader.batch_size or 1)
    model: Any = network_of(runner)
    model.eval()
    tested = 0
    for indices in batches:
        with phase(where, 'reading a test batch'):
            collate = loop.dataloader.collate_fn or pseudo_collate
            batch = collate([dataset[index] for index in indices])
            check_test_batch(batch, runner.train_loop.batch)
        with phase(where, 'predicting a test batch'), torch.no_grad(), autocast(enabled=loop.fp16):
            outputs = model.test_step(batch)
            _check_scores(outputs, model.step.num_seen)
        with phase(where, 'the metric of a test batch'):
            loop.evaluator.process(data_samples=outputs, data_batch=batch)
            tested += len(outputs)
    with phase(where, 'the metric'):
        loop.evaluator.evaluate(tested)


def _check_scores(samples: Any, classes: int) -> None:
    """Check that the network has grown, and so gives a score for each class."""
    for sample in samples:
        scores = getattr(sample, 'seg_logits', None)
        if scores is not None and len(scores.data) not in (1, classes):
            raise InputError(
                f'the network gives {len(scores.data)} scores a pixel, and this step '
                f'has {classes} classes: the number that its decode head gives must '
                'be its num_classes, which grows from step to step'
            )


def _batches(dataset: Any, batch_size: int) -> list[list[int]]:
    """Return the indices of a batch of images of different sizes, and of further single images."""
    chosen = different_sizes(sizes_of(dataset), MOST)
    rest = [index for index in range(len(dataset)) if index not in chosen]
    together = [*chosen, *rest][: min(batch_size, MOST, len(dataset))]
    return [together, *([index] for index in chosen if index not in together)]


def sizes_of(dataset: Any) -> dict[int, tuple[int, int]]:
    """Return width and height of the images from their files' headers, where these can be read.

    Reading ends after a second; the images that were read then stand for all.

    Args:
        dataset: A view of test images.
    """
    start, result = time.monotonic(), {}
    for index in range(len(dataset)):
        if time.monotonic() - start > PATIENCE:
            break
        try:
            with Image.open(dataset.get_data_info(index)['img_path']) as image:
                result[index] = image.size
        except Exception:
            # The file has another format, which the pipeline's own loader may know.
            continue
    return result


def different_sizes(sizes: dict[int, tuple[int, int]], most: int) -> list[int]:
    """Choose images whose sizes differ in ways that may matter to networks.

    The chosen images are the first, one of odd width or height, the smallest and the largest.

    Args:
        sizes: Width and height by index.
        most: The most images to choose.
    """
    if not sizes:
        return [0]

    def area(index: int) -> int:
        return sizes[index][0] * sizes[index][1]

    odd = [index for index, size in sizes.items() if size[0] % 2 or size[1] % 2]
    wanted = [min(sizes), *odd[:1], min(sizes, key=area), max(sizes, key=area)]
    chosen: dict[tuple[int, int], int] = {}
    for index in wanted:
        chosen.setdefault(sizes[index], index)
    return list(chosen.values())[:most]
