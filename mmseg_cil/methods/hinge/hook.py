"""Hook that keeps mean embeddings of each class and hands those of earlier steps on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.runner import Runner
from torch import nn

from mmseg_cil.contracts import DataBatch, StepHook, network_of
from mmseg_cil.engine.paths import step_folder
from mmseg_cil.hooks.step_images import images_stand_in, step_batches
from mmseg_cil.methods.hinge.class_means import FILE_NAME, ClassMeans, mean_embeddings
from mmseg_cil.methods.hinge.regulariser import ClassMeansReader
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.registry import HOOKS
from mmseg_cil.utils.main_process import decided_by_main
from mmseg_cil.utils.values import check_number


@HOOKS.register_module()
class ClassMeansHook(StepHook):
    """Writes ``class_means.pth`` after a step and gives those of earlier steps to readers.

    One pass over images of the step, in evaluation mode, gives the mean embedding (the map before
    the decode head's classifier, before its dropout) of each class that the step introduced, over
    the pixels with the label of this class: D numbers for each mean. In a domain-incremental walk
    every step keeps a mean of every class. Each image is cropped and flipped by a seed of its
    own, so the means are the same on any number of processes, up to the rounding of sums. The
    background has many kinds of things, and its mean lies between them: it may have several
    means, the centres of clusters of its cells, and so may the other classes. If the first step
    was trained elsewhere and its images are gone, images of a later step stand in for them, and a
    pixel belongs to the class that the network predicts.

    The means come from the network that the step leaves, after any fusion or averaging of its
    weights. The means are not updated later: the embedding drifts while later steps train, so an
    older mean lies farther from the embeddings of its class's pixels.

    Args:
        max_images: Greatest number of images, spread evenly over the step's images. The number is
            our choice. None: all images. Defaults to 1000.
        batch_size: Images per forward pass and process. By default the batch size of training.
        background: Number of means of the background. Defaults to 1.
        foreground: Number of means of each other class. Defaults to 1.

    Raises:
        InputError: A number is not positive.
    """

    rehearsed = True

    def __init__(
        self,
        max_images: int | None = 1000,
        batch_size: int | None = None,
        background: int = 1,
        foreground: int = 1,
    ) -> None:
        numbers = dict(
            max_images=max_images,
            batch_size=batch_size,
            background=background,
            foreground=foreground,
        )
        for name, value in numbers.items():
            if value is not None:
                check_number(self, name, value, least=1, whole=True)
        self.max_images = max_images
        self.batch_size = batch_size
        self.background = background
        self.foreground = foreground

    def before_train(self, runner: Runner) -> None:
        """Give the readers the means that earlier steps kept."""
        model = network_of(runner)
        if not isinstance(model, IncrementalEncoderDecoder):
            return
        readers = [
            regulariser
            for regulariser in model.regularisers
            if isinstance(regulariser, ClassMeansReader)
        ]
        if not readers:
            return
        walk = Path(runner.work_dir).parent
        kept = []
        for step in model.step.trained:
            path = step_folder(walk, step) / FILE_NAME
            found, settings = ClassMeans.load(path)
            if settings != self._settings():
                runner.logger.warning(
                    f'{path} was made with {settings}; this method would make it with '
                    f'{self._settings()}'
                )
            kept.append(found)
        for reader in readers:
            reader.set_class_means(ClassMeans.joined(kept) if kept else None, model)

    def after_step(self, runner: Runner) -> None:
        """Keep the means of this step's classes, once its weights are final."""
        model = network_of(runner)
        assert isinstance(model, IncrementalEncoderDecoder)
        batches = step_batches(runner, self.max_images, self.batch_size)
        # Stand-in images belong to another step, so their labels lack this step's classes.
        means = self._means(model, batches, predicted=images_stand_in(runner))

        def write() -> str:
            path = Path(runner.work_dir) / FILE_NAME
            means.save(path, self._settings())
            return (
                f'kept {len(means.classes)} mean embeddings of classes '
                f'({path.stat().st_size / 1e3:.1f} kB)'
            )

        # An error such as a full disk ends all processes, so none waits for rank 0.
        runner.logger.info(decided_by_main(write))

    def has_kept(self, folder: Path) -> bool:
        """Return whether a step's folder has the file, made with the settings of this hook."""
        path = folder / FILE_NAME
        return path.is_file() and ClassMeans.load(path)[1] == self._settings()

    def stand_in(self, model: nn.Module, batches: Iterable[DataBatch], folder: Path) -> None:
        """Write, for the rehearsal, a file of the kind that a step leaves.

        Args:
            model: The segmentor at the step.
            batches: Collated samples.
            folder: Folder of the step.
        """
        assert isinstance(model, IncrementalEncoderDecoder)
        means = self._means(model, batches)
        means.save(folder / FILE_NAME, self._settings())

    def _means(
        self,
        model: IncrementalEncoderDecoder,
        batches: Iterable[DataBatch],
        predicted: bool = False,
    ) -> ClassMeans:
        """Return the means of the classes that the step introduced."""
        classes = model.step.classes_of(model.step.index)
        return mean_embeddings(model, batches, classes, predicted, self.background, self.foreground)

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = dict(max_images=self.max_images, batch_size=self.batch_size)
        # Files of earlier versions, which have one mean a class, stay valid.
        several = dict(background=self.background, foreground=self.foreground)
        return settings | {name: count for name, count in several.items() if count > 1}
