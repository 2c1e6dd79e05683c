"""Labelling a step's images by the network as it stands before the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.runner import Runner
from mmseg.models.utils import resize
from torch import Tensor

from mmseg_cil.contracts import StepHook, network_of
from mmseg_cil.datasets.passes import pass_over, seeded_images
from mmseg_cil.datasets.pipeline import without_augmentation
from mmseg_cil.datasets.view import IncrementalDataset
from mmseg_cil.errors import InputError
from mmseg_cil.losses.pixel_statistics import Grid
from mmseg_cil.methods.plop.pseudo_labels import (
    NUM_BINS,
    predicted_with_uncertainty,
    thresholds_from_histograms,
    uncertainty_histograms,
)
from mmseg_cil.methods.self_labels.files import LabelFolder, digest_of
from mmseg_cil.methods.self_labels.reference import UNSURE
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.models.teacher import Teacher
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.main_process import decided_by_main
from mmseg_cil.utils.values import check_number


@HOOKS.register_module()
class SelfLabelsHook(StepHook):
    """Labels the images of a step, once, by the network that the step begins with.

    That is the network of the last step, before rows of new classes are added. It sees every
    image whole, in evaluation mode, and gives each pixel the class that it predicts, where its
    uncertainty (the entropy as a share of the greatest one) is below the class's threshold:
    PLOP's, the median uncertainty of the pixels that are labelled background and predicted so,
    over the images of the step. Exemplars are labelled too, and count in no threshold.

    The labels lie in the folder ``self_labels`` of the step while it trains, and are removed when
    it is over: nothing is stored between steps, and no teacher runs in training. A step that was
    killed goes on with those that are there. Each process labels a part of the images; what they
    are does not depend on how many there are.

    It acts at steps after the first that trained whose labels hide old classes.

    Args:
        base: The least threshold, a share of the greatest entropy. Defaults to 0.001, PLOP's.

    Raises:
        InputError: ``base`` is negative.
    """

    # Before hooks that look at training images.
    priority = 'HIGH'
    rehearsed = True

    def __init__(self, base: float = 0.001) -> None:
        check_number(self, 'base', base)
        self.base = base

    def before_train(self, runner: Runner) -> None:
        """Label the images, unless that was done before training was interrupted."""
        model = network_of(runner)
        if not isinstance(model, IncrementalEncoderDecoder):
            return
        step, folder = model.step, LabelFolder(runner.work_dir)
        if not step.trained or not step.num_hidden:
            return
        if step.num_old > UNSURE:
            raise InputError(
                f'SelfLabelsHook knows {UNSURE} old classes at most, and step {step.index} has '
                f'{step.num_old}: a map of labels has a byte a pixel'
            )
        dataset: Any = runner.train_dataloader.dataset
        paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
        content = dict(base=self.base, classes=step.num_old, images=digest_of({*paths}))
        if decided_by_main(lambda: folder.is_done(content)):
            return
        decided_by_main(folder.begin)
        thresholds = self._label(runner, model, paths, folder)
        decided_by_main(lambda: folder.finish(content))
        _read_anew(runner)
        runner.logger.info(
            f'self-labels of {len({*paths})} images; a class is sure below the uncertainty '
            f'{[round(value, 4) for value in thresholds.tolist()]}'
        )

    def after_step(self, runner: Runner) -> None:
        """Remove the labels."""
        folder = LabelFolder(runner.work_dir)
        decided_by_main(folder.remove)

    def _label(
        self,
        runner: Runner,
        model: IncrementalEncoderDecoder,
        paths: Sequence[str],
        folder: LabelFolder,
    ) -> Tensor:
        """Write this process's part of the maps; returns the thresholds of the classes."""
        network = model.previous_network()
        step, device = model.step, next(model.parameters()).device
        dataset: Any = runner.train_dataloader.dataset
        own = dataset.num_own if isinstance(dataset, IncrementalDataset) else len(dataset)
        counts = torch.zeros(step.num_seen, NUM_BINS['true'], dtype=torch.int64, device=device)
        for _, logits, labels in _predicted(runner, model, network, range(own)):
            counts += uncertainty_histograms(logits, labels, step.num_seen, 'true')
        all_reduce(counts)
        thresholds = thresholds_from_histograms(counts.cpu(), step.num_old, self.base)
        limits = thresholds.to(device)
        first = {path: index for index, path in reversed(list(enumerate(paths)))}
        problem = None
        try:
            for index, logits, _ in _predicted(runner, model, network, sorted(first.values())):
                folder.write(paths[index], sure_labels(logits, limits)[0].cpu().numpy())
        except OSError as error:
            problem = f'{type(error).__name__}: {error}'
        # None waits for a process whose disk is full.
        problems = [one for one in all_gather_object(problem) if one]
        if problems:
            raise OSError(f'self-labels cannot be written into {folder.path}: {problems[0]}')
        return thresholds


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


@torch.no_grad()
def _predicted(
    runner: Runner, model: IncrementalEncoderDecoder, network: Teacher, indices: Sequence[int]
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Index, logits ``(1, O, H, W)`` and labels ``(1, H, W)`` of this process's images, whole.

    Logits have the size of the image's file, as its mask has.
    """
    loader: Any = runner.train_dataloader
    mine = indices[get_rank() :: get_world_size()]
    images = seeded_images(without_augmentation(loader.dataset), mine)
    for index, batch in zip(mine, pass_over(images, loader.num_workers), strict=True):
        data = model.data_preprocessor(batch, False)
        sample = data['data_samples'][0]
        labels = sample.gt_sem_seg.data.to(data['inputs'].device)
        record = network(data['inputs'])
        logits = _enlarged(record.logits, data['inputs'].shape[-2:], record.align_corners)
        # A preprocessor may have padded the image at its lower right.
        logits = logits[:, :, : labels.shape[1], : labels.shape[2]]
        yield index, _enlarged(logits, sample.ori_shape[:2], record.align_corners), labels


def _enlarged(logits: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    enlarged: Tensor = resize(
        logits, size=tuple(size), mode='bilinear', align_corners=align_corners
    )
    return enlarged


def _read_anew(runner: Runner) -> None:
    """Drop the batches that workers have read ahead, without labels."""
    iterator: Any = runner.train_loop.dataloader_iterator
    if getattr(iterator, '_iterator', None) is not None:
        iterator._dataloader.sampler.skip(0)
        # The former workers end before others begin.
        iterator._iterator = None
        iterator._iterator = iter(iterator._dataloader)
