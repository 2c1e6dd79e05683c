"""Hook that keeps the prototype of each class and hands those of earlier steps on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size
from mmengine.runner import Runner
from torch import nn

from mmseg_cil.contracts import DataBatch, StepHook, network_of
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.hooks.step_images import images_stand_in, step_batches
from mmseg_cil.methods.reminder.distiller import PrototypesReader
from mmseg_cil.methods.reminder.prototypes import (
    FILE_NAME,
    Prototypes,
    joined_vectors,
    step_prototypes,
)
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.main_process import decided_by_main
from mmseg_cil.utils.values import check_number


@HOOKS.register_module()
class ReminderPrototypesHook(StepHook):
    """Writes ``reminder_prototypes.pth`` after a step and gives those of earlier steps to readers.

    One pass over the step's images in evaluation mode, without exemplars, gives the prototype of
    each class that the step introduced, the background among those of the first step: the mean
    embedding (the map before the decode head's classifier, before its dropout) over the pixels of
    the class in a group of images, averaged over the groups that show the class. Prototypes are
    not updated later. In a domain-incremental walk, where no class is new, none are kept.

    Source: HieuPhan33/REMINDER ``run.py``; ``train.py``, ``update_prototypes``, where a group is
    a batch of the shuffled training loader. Here a group has as many images as a training batch
    of all processes, in the order of the list, and lies within a process; each image is cropped
    and flipped by a seed of its own. So prototypes are the same on any number of processes, up to
    the rounding of sums.

    If the first step was trained elsewhere and its images are gone, images of a later step stand
    in for them, and a pixel belongs to the class that the network predicts (our choice).

    Args:
        max_images: Greatest number of images, spread evenly over the step's images. By default
            all images, as in the official code.

    Raises:
        InputError: The number is not positive.
    """

    rehearsed = True

    def __init__(self, max_images: int | None = None) -> None:
        if max_images is not None:
            check_number(self, 'max_images', max_images, least=1, whole=True)
        self.max_images = max_images

    def before_train(self, runner: Runner) -> None:
        """Give the readers the prototypes that earlier steps kept."""
        model = network_of(runner)
        if not isinstance(model, IncrementalEncoderDecoder):
            return
        step = model.step
        readers = [part for part in model.distillers if isinstance(part, PrototypesReader)]
        if not readers or not step.trained or not step.num_new:
            return
        walk = Path(runner.work_dir).parent
        kept = []
        for earlier in step.trained:
            path = step_folder(walk, earlier) / FILE_NAME
            found, settings = Prototypes.load(path)
            if settings != self._settings():
                runner.logger.warning(
                    f'{path} was made with {settings}; this method would make it with '
                    f'{self._settings()}'
                )
            kept.append(found)
        for reader in readers:
            reader.set_old_prototypes(joined_vectors(kept, step.num_old), model)

    def after_step(self, runner: Runner) -> None:
        """Keep the prototypes of this step's classes, once its weights are final."""
        model = network_of(runner)
        assert isinstance(model, IncrementalEncoderDecoder)
        step = model.step
        if step.by_domain:
            return
        together = (runner.train_dataloader.batch_size or 1) * get_world_size()
        batches = step_batches(runner, self.max_images, together=together)
        # Stand-in images belong to another step, so their labels lack this step's classes.
        predicted = images_stand_in(runner)
        found = step_prototypes(model, batches, step.classes_of(step.index), together, predicted)

        def write() -> str:
            path = Path(runner.work_dir) / FILE_NAME
            found.save(path, self._settings())
            shown = int((found.groups > 0).sum())
            return f'kept the prototypes of {shown} classes ({path.stat().st_size / 1e3:.1f} kB)'

        # An error such as a full disk ends all processes, so none waits for rank 0.
        runner.logger.info(decided_by_main(write))

    def has_kept(self, folder: Path) -> bool:
        """Return whether a step's folder has the file, made with the settings of this hook."""
        path = folder / FILE_NAME
        return path.is_file() and Prototypes.load(path)[1] == self._settings()

    def stand_in(self, model: nn.Module, batches: Iterable[DataBatch], folder: Path) -> None:
        """Write, for the rehearsal, a file of the kind that a step leaves.

        Args:
            model: The segmentor at the step.
            batches: Collated samples.
            folder: Folder of the step.
        """
        assert isinstance(model, IncrementalEncoderDecoder)
        step = model.step
        found = step_prototypes(model, batches, step.classes_of(step.index))
        found.save(folder / FILE_NAME, self._settings())

    def _settings(self) -> dict[str, Any]:
        return dict(max_images=self.max_images)
