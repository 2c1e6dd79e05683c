"""The thresholds of PLOP's pseudo-labels, from one pass before a step's training."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, broadcast_object_list, get_rank, get_world_size
from mmengine.runner import Runner
from torch import Tensor

from mmseg_cil.contracts import DataBatch, StepHook, network_of
from mmseg_cil.datasets.passes import pass_over, seeded_images
from mmseg_cil.datasets.pipeline import without_augmentation
from mmseg_cil.datasets.view import IncrementalDataset
from mmseg_cil.methods.plop.pseudo_label_loss import ThresholdedLoss
from mmseg_cil.methods.plop.pseudo_labels import (
    MEDIANS,
    NUM_BINS,
    thresholds_from_histograms,
    uncertainty_histograms,
)
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.atomic import write_json
from mmseg_cil.utils.values import check_choice, check_number

FILE_NAME = 'thresholds.json'
CROPS = ('whole', 'random')


@HOOKS.register_module()
class PseudoLabelThresholdsHook(StepHook):
    """Computes the thresholds and hands them to every :class:`ThresholdedLoss`.

    The hook acts at steps that have a teacher and labels that hide old classes. The
    teacher sees every image of the step once, exemplars excepted. Each process takes a
    part of the images, and the histograms are summed over processes (the official code
    does not sum them), so the thresholds are the same on all processes and for any number
    of processes. The thresholds are kept as ``thresholds.json`` in the step's folder; a
    resumed step reads this file.

    Args:
        base: The least threshold: with the true median a fraction of the greatest
            entropy, with the official median a value on the official scale. Defaults to
            0.001, the official number.
        median: 'true' or 'official', see
            :func:`~mmseg_cil.methods.plop.pseudo_labels.thresholds_from_histograms`.
        crops: The part of an image that the teacher sees: 'whole', the whole image at its
            usual size in training, see
            :func:`~mmseg_cil.datasets.pipeline.without_augmentation` (in windows if
            ``test_cfg.mode`` is 'slide'), or 'random', the output
            of the training pipeline, as in the official code. Augmentation is drawn from the
            image's place in the list, so that the thresholds of 'random' are reproducible
            too. Defaults to 'whole'.

    Raises:
        InputError: ``median`` or ``crops`` is unknown.
    """

    priority = 'HIGH'
    rehearsed = True

    def __init__(self, base: float = 0.001, median: str = 'true', crops: str = 'whole') -> None:
        check_choice(self, 'median', median, MEDIANS)
        check_choice(self, 'crops', crops, CROPS)
        check_number(self, 'base', base)
        self.base = base
        self.median = median
        self.crops = crops

    def before_train(self, runner: Runner) -> None:
        """Read or compute the thresholds, if pseudo-labels are used."""
        model = network_of(runner)
        if not isinstance(model, IncrementalEncoderDecoder) or model.teacher is None:
            return
        readers = [module for module in model.modules() if isinstance(module, ThresholdedLoss)]
        if not readers or not model.step.num_hidden:
            return
        path = Path(runner.work_dir) / FILE_NAME
        values = self._cached(path, model.step.num_seen)
        if values is None:
            histograms = teacher_histograms(
                model, self._batches(runner), median=self.median, augmented=self.crops == 'random'
            )
            values = thresholds_from_histograms(
                histograms, model.step.num_old, self.base, self.median
            ).tolist()
            if get_rank() == 0:
                write_json(
                    path,
                    {
                        **self._settings(),
                        'thresholds': values,
                        'pixels': histograms.sum(dim=1).tolist(),
                    },
                )
        device = next(model.parameters()).device
        for reader in readers:
            reader.set_thresholds(torch.tensor(values, device=device))

    def _settings(self) -> dict[str, Any]:
        return {
            'base': self.base,
            'median': self.median,
            'crops': self.crops,
            'unit': 'greatest entropy',
        }

    def _cached(self, path: Path, num_classes: int) -> list[float] | None:
        """Return the thresholds that rank 0 finds in the step's folder, or None."""
        found: list[Any] = [None]
        if get_rank() == 0:
            found = [read_thresholds(path, self._settings(), num_classes)]
        broadcast_object_list(found)
        values: list[float] | None = found[0]
        return values

    def _batches(self, runner: Runner) -> Iterable[DataBatch]:
        """Return this process's images, one by one because sizes may differ."""
        loader: Any = runner.train_dataloader
        dataset = loader.dataset
        # Exemplars, which come after the step's images, are left out: their labels hide nothing.
        own = dataset.num_own if isinstance(dataset, IncrementalDataset) else len(dataset)
        if self.crops == 'whole':
            dataset = without_augmentation(dataset)
        mine = range(get_rank(), own, get_world_size())
        return pass_over(seeded_images(dataset, mine), loader.num_workers)


def read_thresholds(path: Path, settings: dict[str, Any], num_classes: int) -> list[float] | None:
    """Return the thresholds in a file; None if it is missing, unreadable or of other settings."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        values = [float(value) for value in content['thresholds']]
        same = all(content[key] == value for key, value in settings.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    usable = (
        same
        and len(values) == num_classes
        and all(math.isfinite(threshold) for threshold in values)
    )
    return values if usable else None


def teacher_histograms(
    model: IncrementalEncoderDecoder,
    batches: Iterable[DataBatch],
    median: str = 'true',
    augmented: bool = False,
) -> Tensor:
    """Compute histograms of the teacher's uncertainty over the pixels labelled background.

    Args:
        model: The segmentor, with a loaded teacher.
        batches: This process's collated samples. With several processes every process
            must call this function, even without a batch.
        median: Median that the histograms are for, 'true' or 'official'.
        augmented: The samples come from the training pipeline and are padded as in
            training. Otherwise, as in evaluation, an image keeps its size, and the teacher
            sees it through windows if ``test_cfg`` says so.

    Returns:
        ``(C, bins)`` int64, summed over all processes.
    """
    assert model.teacher is not None
    num_classes = model.step.num_seen
    device = next(model.parameters()).device
    total = torch.zeros(num_classes, NUM_BINS[median], dtype=torch.int64, device=device)
    with torch.no_grad():
        for batch in batches:
            data = model.data_preprocessor(batch, augmented)
            labels = torch.stack([sample.gt_sem_seg.data for sample in data['data_samples']])
            labels = labels.squeeze(1).to(device)
            logits = model.teacher.image_logits(data['inputs'], windows=not augmented)
            # A preprocessor may have padded the image at its lower right.
            logits = logits[:, :, : labels.shape[1], : labels.shape[2]]
            total += uncertainty_histograms(logits, labels, num_classes, median)
    all_reduce(total)
    return total.cpu()
