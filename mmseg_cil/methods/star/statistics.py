"""The statistics of each class's embeddings, and the file in which a step keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor
from torch.nn import functional

from mmseg_cil.contracts import DataBatch
from mmseg_cil.errors import InputError
from mmseg_cil.hooks.class_sums import sums_of_classes
from mmseg_cil.hooks.step_images import prepared
from mmseg_cil.models.heads import main_classifier
from mmseg_cil.models.network_output import run_network
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.utils.atomic import atomic_write
from mmseg_cil.utils.finite import named, not_finite
from mmseg_cil.utils.weights_files import NotDataError, read_weights

FILE_NAME = 'star.pth'
FORMAT = 1
_TENSORS = ('prototypes', 'norm_mean', 'norm_std', 'noise', 'counts')


@dataclass(frozen=True)
class ClassStatistics:
    """The statistics of the embeddings of F foreground classes.

    Attributes:
        prototypes: ``(F, D)``, directions of the mean unit embeddings; zeros without a cell.
        norm_mean: ``(F,)``, means of the embeddings' lengths.
        norm_std: ``(F,)``, standard deviations of the lengths, unbiased.
        noise: ``(F, D)``, root mean squares of the distances of unit embeddings, by channel.
        counts: ``(F,)`` float64, numbers of cells.
        background: Number of cells labelled background.
        predicted: ``(O,)`` float64, numbers of cells that the teacher of the step predicted as
            background and as each old class; None at a step without a teacher, and where the step
            was trained by another method.
    """

    prototypes: Tensor
    norm_mean: Tensor
    norm_std: Tensor
    noise: Tensor
    counts: Tensor
    background: float
    predicted: Tensor | None = None

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        """Write the statistics atomically, as plain types and tensors.

        Args:
            path: The file.
            settings: Settings with which the statistics were computed.
        """
        content = dict(format=FORMAT, settings=settings, **vars(self))
        atomic_write(path, lambda file: torch.save(content, file))

    @classmethod
    def load(cls, path: Path) -> tuple[ClassStatistics, dict[str, Any]]:
        """Read statistics and settings, as :meth:`save` wrote them, onto the CPU.

        Raises:
            InputError: The file is missing, damaged or of another format.
        """
        if not path.is_file():
            raise InputError(
                f'{path} does not exist: the statistics of that step were not kept. Run the step '
                'with a method that has a StarStatisticsHook, or take it over with --start-from, '
                'which makes them'
            )
        try:
            content = dict(read_weights(path))
            if content.pop('format') != FORMAT:
                raise ValueError('another format')
            if bad := not_finite(content):
                raise ValueError(f'{named(bad)} hold values that are not finite')
            settings: dict[str, Any] = content.pop('settings')
            found = cls(**content)
            if len({len(getattr(found, name)) for name in _TENSORS}) != 1:
                raise ValueError('tables of different lengths')
        except NotDataError:
            raise
        except Exception as error:
            raise InputError(
                f'{path} cannot be read ({error}): the file is damaged or of another version; '
                'delete the folder of that step and run it again'
            ) from error
        return found, settings


def joined(parts: Sequence[ClassStatistics], subtract: bool) -> ClassStatistics:
    """Return the statistics of several steps, at least one, as those of a single one.

    The numbers of cells are those of the official code. With ``subtract`` (overlapped) those of a
    class stay those of its own step; half of the background that a later step's teacher predicts
    comes on top of the earlier, from which one per cent for each new class is taken away. Without
    it (disjoint) all that later teachers predict comes on top.

    Args:
        parts: Statistics of the steps that trained, in order.
        subtract: See above.
    """
    counts, background = parts[0].counts.clone(), parts[0].background
    for part in parts[1:]:
        predicted = part.predicted
        if predicted is not None and len(predicted) != len(counts) + 1:
            raise InputError(
                'the statistics of earlier steps do not fit each other: a step counted '
                f'{len(predicted) - 1} old classes where {len(counts)} were; run the walk anew'
            )
        background = background_before(background, len(part.counts), subtract)
        if predicted is not None:
            background += float(predicted[0]) * (0.5 if subtract else 1.0)
            counts = counts if subtract else counts + predicted[1:]
        counts = torch.cat([counts, part.counts])
    tables = {name: torch.cat([getattr(part, name) for part in parts]) for name in _TENSORS[:-1]}
    return ClassStatistics(**tables, counts=counts, background=background)


def background_before(background: float, num_new: int, subtract: bool) -> float:
    """Return the earlier background cells that count at a step with new classes.

    Source: jinpeng0528/STAR ``trainer/trainer_voc.py``, ``prev_bg_number``.
    """
    return background * max(0.0, 1 - 0.01 * num_new) if subtract else background


def cells_of(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Return the labels of a map's cells: that of the pixel at the middle of each cell.

    On images whose sides are 16 times the map's these are the pixels ``[8::16, 8::16]`` of the
    official code.

    Args:
        labels: ``(N, H, W)`` integer labels.
        size: ``(h, w)``.
    """
    # Ids are exact in float32, which interpolation needs.
    found = functional.interpolate(labels.unsqueeze(1).float(), tuple(size), mode='nearest-exact')
    return found.squeeze(1).long()


def moments(embedding: Tensor, labels: Tensor, classes: range) -> Tensor:
    """Return sums over the cells of each class, ``(K, 2 D + 3)`` float64.

    The columns are the sums of unit embeddings, of their squares, of lengths, of squared lengths,
    and the number of cells.

    Args:
        embedding: ``(N, D, h, w)``.
        labels: ``(N, h, w)`` model ids.
        classes: K model ids.
    """
    # Squares and differences of squares need float64.
    values = embedding.double()
    length = values.norm(dim=1, keepdim=True)
    units = values / length.clamp(min=1e-12)
    vectors = torch.cat([units, units.square(), length, length.square()], dim=1)
    return sums_of_classes(vectors, labels.unsqueeze(1), classes)


def statistics_of(
    sums: Tensor, background: float, earlier: Tensor | None = None, predicted: Tensor | None = None
) -> ClassStatistics:
    """Return the statistics of classes from their :func:`moments`.

    The noise of a class is the distance to its own prototype. With ``earlier`` it is, as in the
    official code from the second step on, the distance to the row of the class's place in the
    table of all prototypes, which is that of an old class.

    Args:
        sums: ``(K, 2 D + 3)`` float64, on the CPU.
        background: Number of cells labelled background.
        earlier: ``(F, D)``, prototypes of earlier classes, for the official form; None for ours.
        predicted: See :class:`ClassStatistics`.
    """
    size = (sums.shape[1] - 3) // 2
    units, squares, lengths, squared, count = sums.split([size, size, 1, 1, 1], dim=1)
    number = count.clamp(min=1)
    prototypes = functional.normalize(units, dim=1)
    near = prototypes
    if earlier is not None:
        near = torch.cat([earlier.double(), prototypes])[: len(prototypes)]
    noise = squares / number - 2 * near * units / number + near.square() * (count > 0)
    mean = lengths / number
    variance = (squared - count * mean.square()) / (count - 1).clamp(min=1)
    return ClassStatistics(
        prototypes.float(),
        mean.squeeze(1).float(),
        variance.clamp(min=0).sqrt().squeeze(1).float(),
        noise.clamp(min=0).sqrt().float(),
        count.squeeze(1),
        background,
        predicted,
    )


def gathered(
    model: IncrementalEncoderDecoder,
    batches: Iterable[DataBatch],
    classes: range,
    network_says: bool = False,
) -> tuple[Tensor, float]:
    """Return the :func:`moments` of some classes, and the number of cells labelled background.

    The model runs in evaluation mode without gradients and is put back into its mode. Sums are in
    float64 and over all processes, so the split into batches and processes affects only rounding.

    Args:
        model: The network of a finished step.
        batches: This process's collated samples with ``gt_sem_seg`` in model ids. With several
            processes every process must call this function, even without a batch.
        classes: Model ids.
        network_says: A cell belongs to the class that the network predicts, whatever its label.
    """
    weight = main_classifier(model)[1].weight
    sums = torch.zeros(len(classes), 2 * weight.shape[1] + 3, dtype=torch.float64)
    sums, background = sums.to(weight.device), torch.zeros(1, dtype=torch.float64)
    background = background.to(weight.device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for batch in batches:
            inputs, labels = prepared(model, batch)
            output = run_network(model, inputs)
            size = output.embedding.shape[2:]
            cells = (
                output.logits.argmax(dim=1)
                if network_says
                else cells_of(labels.squeeze(1).to(inputs.device), size)
            )
            sums += moments(output.embedding, cells, classes)
            background += (cells == 0).sum()
    model.train(was_training)
    all_reduce(sums)
    all_reduce(background)
    return sums.cpu(), float(background)
