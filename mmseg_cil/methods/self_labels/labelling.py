"""Base of hooks that label a step's images by the network that the step begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.runner import Runner
from mmseg.models.utils import resize
from torch import Tensor

from mmseg_cil.contracts import HeadLoss, StepHook, network_of
from mmseg_cil.datasets.passes import pass_over, seeded_images
from mmseg_cil.datasets.pipeline import without_augmentation
from mmseg_cil.datasets.view import IncrementalDataset
from mmseg_cil.methods.self_labels.files import LabelFolder, digest_of
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.models.teacher import Teacher
from mmseg_cil.utils.main_process import decided_by_main
from mmseg_cil.utils.step_context import StepContext

#: Function of an image's path and logits ``(1, O, H, W)`` that writes the image's labels.
Writer = Callable[[str, Tensor], None]


class SelfLabelLoss(HeadLoss):
    """A loss that gets the folder with the labels of a step's images: a contract of this method."""

    def set_folder(self, step_folder: str) -> None:
        """Take the folder of the step, whose images are all labelled by now.

        Args:
            step_folder: Folder of the step, not of the labels.
        """


class LabellingHook(StepHook):
    """Labels the images of a step, once, by the network that the step begins with.

    The labelling network is that of the last step, before rows of new classes are added. The
    network sees every image whole, in evaluation mode; exemplars are labelled too.

    The labels are in the folder ``self_labels`` of the step's folder while the step trains, and
    are removed after the step: nothing is stored between steps, and no teacher runs in training.
    A step that was killed and resumed uses the labels in the folder. Each process labels a part of
    the images; the labels do not depend on the number of processes.

    A subclass defines the steps at which the hook acts, the settings that the labels depend on,
    and the function that writes the labels.
    """

    # The hook runs before hooks that look at training images.
    priority = 'HIGH'
    rehearsed = True
    own_names = ('acts', 'settings', 'writer')

    def acts(self, step: StepContext) -> bool:
        """Return whether a step's images are labelled."""
        return bool(step.trained)

    def settings(self, step: StepContext) -> dict[str, Any]:
        """Return the settings that the labels depend on beside network and images, plain values.

        Raises:
            InputError: The step has too many classes.
        """
        raise NotImplementedError

    def writer(self, runner: Runner, network: Teacher, folder: LabelFolder) -> Writer:
        """Return the function that writes the labels of an image; every process calls.

        Args:
            runner: Runner of the step.
            network: The labelling network.
            folder: Folder to write the labels to.
        """
        raise NotImplementedError

    def before_train(self, runner: Runner) -> None:
        """Label the images, unless they were labelled before an interruption of training."""
        model = network_of(runner)
        if not isinstance(model, IncrementalEncoderDecoder) or not self.acts(model.step):
            return
        dataset: Any = runner.train_dataloader.dataset
        paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
        content = dict(self.settings(model.step), images=digest_of({*paths}))
        folder = LabelFolder(runner.work_dir)
        if not decided_by_main(lambda: folder.is_done(content)):
            decided_by_main(folder.begin)
            network = model.previous_network()
            _write_all(runner, network, paths, self.writer(runner, network, folder))
            decided_by_main(lambda: folder.finish(content))
            _read_anew(runner)
            runner.logger.info(f'the network has labelled {len({*paths})} images of the step')
        for module in model.modules():
            if isinstance(module, SelfLabelLoss):
                module.set_folder(runner.work_dir)

    def after_step(self, runner: Runner) -> None:
        """Remove the labels."""
        decided_by_main(LabelFolder(runner.work_dir).remove)


def own_images(runner: Runner) -> range:
    """Return the indices of a step's own images in its training data; exemplars come after."""
    dataset: Any = runner.train_dataloader.dataset
    return range(dataset.num_own if isinstance(dataset, IncrementalDataset) else len(dataset))


@torch.no_grad()
def predicted(
    runner: Runner, network: Teacher, indices: Sequence[int]
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield index, logits ``(1, O, H, W)`` and labels of this process's share of whole images.

    Logits have the size of the image's file, which is that of its mask. Labels ``(1, h, w)`` have
    the size that the image has in training without augmentation.

    Args:
        runner: Runner of the step.
        network: The predicting network.
        indices: Indices of all processes' images in the training data.
    """
    loader: Any = runner.train_dataloader
    preprocess: Any = network_of(runner).data_preprocessor
    mine = indices[get_rank() :: get_world_size()]
    images = seeded_images(without_augmentation(loader.dataset), mine)
    for index, batch in zip(mine, pass_over(images, loader.num_workers), strict=True):
        # Labels are those of whole images, also where the rehearsal cuts the preprocessed ones.
        sample = batch['data_samples'][0]
        labels, size = sample.gt_sem_seg.data, tuple(sample.ori_shape[:2])
        data = preprocess(batch, False)
        labels = labels.to(data['inputs'].device)
        logits = network.image_logits(data['inputs'])
        # A preprocessor may have padded the image at its lower right.
        logits = logits[:, :, : labels.shape[1], : labels.shape[2]]
        if tuple(logits.shape[-2:]) != size:
            logits = resize(
                logits, size=size, mode='bilinear', align_corners=network.network.align_corners
            )
        yield index, logits, labels


def _write_all(runner: Runner, network: Teacher, paths: Sequence[str], write: Writer) -> None:
    """Write the labels of each image; every process writes those of its share of the images."""
    first = {path: index for index, path in reversed(list(enumerate(paths)))}
    problem = None
    try:
        for index, logits, _ in predicted(runner, network, sorted(first.values())):
            write(paths[index], logits)
    except OSError as error:
        problem = f'{type(error).__name__}: {error}'
    # All processes learn of an error, so none waits for a process whose disk is full.
    problems = [text for text in all_gather_object(problem) if text]
    if problems:
        raise OSError(f'self-labels cannot be written: {problems[0]}')


def _read_anew(runner: Runner) -> None:
    """Drop the batches that workers have read ahead, before the labels existed."""
    iterator: Any = runner.train_loop.dataloader_iterator
    if getattr(iterator, '_iterator', None) is not None:
        iterator._dataloader.sampler.skip(0)
        # The old workers end before new ones begin.
        iterator._iterator = None
        iterator._iterator = iter(iterator._dataloader)
