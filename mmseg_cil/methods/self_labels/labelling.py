"""Labelling a step's images by the network as it stands before the step: what hooks share."""

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

#: Writes what the logits ``(1, O, H, W)`` say of the image of a path.
Writer = Callable[[str, Tensor], None]


class SelfLabelLoss(HeadLoss):
    """A loss that is told where the labels of a step's images are: a contract of this method."""

    def set_folder(self, step_folder: str) -> None:
        """Take the folder of the step, in which all images are labelled.

        Args:
            step_folder: Folder of the step, not of the labels.
        """


class LabellingHook(StepHook):
    """Labels the images of a step, once, by the network that the step begins with.

    That is the network of the last step, before rows of new classes are added. It sees every
    image whole, in evaluation mode; exemplars are labelled too.

    The labels lie in the folder ``self_labels`` of the step while it trains, and are removed when
    it is over: nothing is stored between steps, and no teacher runs in training. A step that was
    killed goes on with those that are there. Each process labels a part of the images; what they
    are does not depend on how many there are.

    A subclass says when it acts, what the labels depend on, and how they are written.
    """

    # Before hooks that look at training images.
    priority = 'HIGH'
    rehearsed = True
    own_names = ('acts', 'settings', 'writer')

    def acts(self, step: StepContext) -> bool:
        """Return whether a step's images are labelled."""
        return bool(step.trained)

    def settings(self, step: StepContext) -> dict[str, Any]:
        """Return what the labels depend on beside network and images, as plain values.

        Raises:
            InputError: The step has too many classes.
        """
        raise NotImplementedError

    def writer(self, runner: Runner, network: Teacher, folder: LabelFolder) -> Writer:
        """Return the function that writes the labels of an image; every process calls.

        Args:
            runner: Runner of the step.
            network: That labels.
            folder: Where to.
        """
        raise NotImplementedError

    def before_train(self, runner: Runner) -> None:
        """Label the images, unless that was done before training was interrupted."""
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
    """Yield index, logits ``(1, O, H, W)`` and labels of this process's part of images, whole.

    Logits have the size of the image's file, as its mask has; labels ``(1, h, w)`` that of the
    image as it is trained on without augmentation.

    Args:
        runner: Runner of the step.
        network: That predicts.
        indices: Indices of all processes' images in the training data.
    """
    loader: Any = runner.train_dataloader
    preprocess: Any = network_of(runner).data_preprocessor
    mine = indices[get_rank() :: get_world_size()]
    images = seeded_images(without_augmentation(loader.dataset), mine)
    for index, batch in zip(mine, pass_over(images, loader.num_workers), strict=True):
        data = preprocess(batch, False)
        sample = data['data_samples'][0]
        labels = sample.gt_sem_seg.data.to(data['inputs'].device)
        logits = network.image_logits(data['inputs'])
        # A preprocessor may have padded the image at its lower right.
        logits = logits[:, :, : labels.shape[1], : labels.shape[2]]
        size = tuple(sample.ori_shape[:2])
        if tuple(logits.shape[-2:]) != size:
            logits = resize(
                logits, size=size, mode='bilinear', align_corners=network.network.align_corners
            )
        yield index, logits, labels


def _write_all(runner: Runner, network: Teacher, paths: Sequence[str], write: Writer) -> None:
    """Write what the network says of each image, every process a part of them."""
    first = {path: index for index, path in reversed(list(enumerate(paths)))}
    problem = None
    try:
        for index, logits, _ in predicted(runner, network, sorted(first.values())):
            write(paths[index], logits)
    except OSError as error:
        problem = f'{type(error).__name__}: {error}'
    # None waits for a process whose disk is full.
    problems = [text for text in all_gather_object(problem) if text]
    if problems:
        raise OSError(f'self-labels cannot be written: {problems[0]}')


def _read_anew(runner: Runner) -> None:
    """Drop the batches that workers have read ahead, without labels."""
    iterator: Any = runner.train_loop.dataloader_iterator
    if getattr(iterator, '_iterator', None) is not None:
        iterator._dataloader.sampler.skip(0)
        # The former workers end before others begin.
        iterator._iterator = None
        iterator._iterator = iter(iterator._dataloader)
