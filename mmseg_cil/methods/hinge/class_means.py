"""Mean embeddings of the classes of a step, and the file in which a step keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmseg_cil.contracts import DataBatch
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.class_sums import sums_of_classes
from mmseg_cil.hooks.step_images import prepared
from mmseg_cil.methods.hinge.clusters import ClassCells, clusters
from mmseg_cil.models.heads import main_classifier
from mmseg_cil.models.network_output import run_network
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.utils.atomic import atomic_write
from mmseg_cil.utils.finite import named, not_finite
from mmseg_cil.utils.weights_files import NotDataError, read_weights

FILE_NAME = 'class_means.pth'
FORMAT = 1
#: Files hold means in this format, half the bytes, unless a number is too great for it.
_STORED = torch.float16


@dataclass(frozen=True)
class ClassMeans:
    """J mean embeddings: one for each class, or some, the centres of clusters of its cells.

    Attributes:
        classes: Model id of the class of each mean; the means of a class follow each other.
        means: ``(J, D)`` float32.
        pixels: ``(J,)`` int64, number of cells of the embedding over which each mean is taken.
    """

    classes: tuple[int, ...]
    means: Tensor
    pixels: Tensor

    @classmethod
    def joined(cls, parts: Sequence[ClassMeans]) -> ClassMeans:
        """Return the means of several steps, at least one, as one object."""
        return cls(
            tuple(class_id for part in parts for class_id in part.classes),
            torch.cat([part.means for part in parts]),
            torch.cat([part.pixels for part in parts]),
        )

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        """Write the means atomically, as plain types and tensors, rounded to float16.

        Numbers beyond the range of float16 make a file of float32.

        Args:
            path: The file.
            settings: Settings with which the means were computed.
        """
        rounded = self.means.to(_STORED)
        content = dict(
            format=FORMAT,
            settings=settings,
            classes=list(self.classes),
            means=rounded if rounded.isfinite().all() else self.means,
            pixels=self.pixels,
        )
        atomic_write(path, lambda file: torch.save(content, file))

    @classmethod
    def load(cls, path: Path) -> tuple[ClassMeans, dict[str, Any]]:
        """Read the means and their settings, as :meth:`save` wrote them, onto the CPU in float32.

        Raises:
            InputError: The file is missing, damaged or of another format.
        """
        if not path.is_file():
            raise InputError(
                f'{path} does not exist: the mean embeddings of that step were not kept. Run the '
                'step with a method that has a ClassMeansHook, or take it over with --start-from, '
                'which makes them'
            )
        try:
            content = read_weights(path)
            if content['format'] != FORMAT:
                raise ValueError('another format')
            if bad := not_finite(content):
                raise ValueError(f'{named(bad)} hold values that are not finite')
            means = content['means'].float()
            found = cls(tuple(content['classes']), means, content['pixels'])
            if not len(found.classes) == len(found.means) == len(found.pixels):
                raise ValueError('lists of different lengths')
            settings: dict[str, Any] = content['settings']
        except NotDataError:
            raise
        except Exception as error:
            raise InputError(
                f'{path} cannot be read ({error}): the file is damaged or of another version; '
                'delete the folder of that step and run it again'
            ) from error
        return found, settings


def mean_embeddings(
    model: IncrementalEncoderDecoder,
    batches: Iterable[DataBatch],
    classes: range,
    predicted: bool = False,
    background: int = 1,
    foreground: int = 1,
) -> ClassMeans:
    """Return the mean, over the pixels of each class, of the map before the classifier.

    The model runs in evaluation mode without gradients and is put back into its mode. Labels are
    resized to the map by nearest neighbour. Sums are in float64, so the split into batches and
    processes affects only rounding. A class may have several means, which are the centres of
    clusters of its cells (:func:`~mmseg_cil.methods.hinge.clusters.clusters`).

    Args:
        model: The network whose embeddings are averaged.
        batches: This process's collated samples with ``gt_sem_seg`` in model ids. With several
            processes every process must call this function, even without a batch.
        classes: Model ids. A class without a pixel is left out.
        predicted: A pixel belongs to the class that the network predicts, whatever its label.
        background: Number of means of the background, if it is among the classes. Defaults to 1.
        foreground: Number of means of each other class. Defaults to 1.
    """
    wanted = {
        class_id: background if model.step.has_background and class_id == 0 else foreground
        for class_id in classes
    }
    cells = ClassCells([class_id for class_id, count in wanted.items() if count > 1])
    weight = main_classifier(model)[1].weight
    # (classes, D + 1): sums of the embeddings of each class, and the number of their cells.
    total = torch.zeros(len(classes), weight.shape[1] + 1, dtype=torch.float64)
    total = total.to(weight.device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for batch in batches:
            inputs, labels = prepared(model, batch)
            output = run_network(model, inputs)
            embedding = output.embedding.float()  # (N, D, h, w)
            if predicted:
                labels = output.logits.argmax(dim=1, keepdim=True)  # (N, 1, h, w)
            labels = labels.to(embedding.device)
            total += sums_of_classes(embedding, labels, classes)
            cells.add(embedding, labels)
    model.train(was_training)
    all_reduce(total)
    total = total.cpu()
    means = (total[:, :-1] / total[:, -1:]).float()
    clustered = cells.of_all_processes()
    parts = []
    for place, class_id in enumerate(classes):
        if not total[place, -1]:
            continue
        if class_id in clustered:
            centres, counts = clusters(clustered[class_id], wanted[class_id])
        else:
            centres, counts = means[place : place + 1], total[place : place + 1, -1].long()
        parts.append(ClassMeans((class_id,) * len(counts), centres, counts))
    nothing = ClassMeans((), means[:0], total[:0, -1].long())
    return ClassMeans.joined(parts or [nothing])
