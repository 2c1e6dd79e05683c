"""The prototype of each class of a step, and the file in which a step keeps the prototypes."""

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
from mmseg_cil.hooks.step_images import prepared
from mmseg_cil.methods.reminder.similarity import embedding_sums
from mmseg_cil.models.heads import main_classifier
from mmseg_cil.models.network_output import run_network
from mmseg_cil.models.segmentors import IncrementalEncoderDecoder
from mmseg_cil.utils.atomic import atomic_write
from mmseg_cil.utils.finite import named, not_finite
from mmseg_cil.utils.weights_files import NotDataError, read_weights

FILE_NAME = 'reminder_prototypes.pth'
FORMAT = 1


@dataclass(frozen=True)
class Prototypes:
    """The prototypes of K classes.

    Attributes:
        classes: Model id of each class.
        vectors: ``(K, D)`` float32; zero for a class that no image showed.
        groups: ``(K,)`` int64, number of groups of images over which each prototype is taken.
    """

    classes: tuple[int, ...]
    vectors: Tensor
    groups: Tensor

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        """Write the prototypes atomically, as plain types and tensors.

        Args:
            path: The file.
            settings: Settings with which the prototypes were computed.
        """
        content = dict(
            format=FORMAT,
            settings=settings,
            classes=list(self.classes),
            vectors=self.vectors,
            groups=self.groups,
        )
        atomic_write(path, lambda file: torch.save(content, file))

    @classmethod
    def load(cls, path: Path) -> tuple[Prototypes, dict[str, Any]]:
        """Read the prototypes and their settings, as :meth:`save` wrote them, onto the CPU.

        Raises:
            InputError: The file is missing, damaged or of another format.
        """
        if not path.is_file():
            raise InputError(
                f'{path} does not exist: the prototypes of that step were not kept. Run the step '
                'with a method that has a ReminderPrototypesHook, or take it over with '
                '--start-from, which makes them'
            )
        try:
            content = read_weights(path)
            if content['format'] != FORMAT:
                raise ValueError('another format')
            if bad := not_finite(content):
                raise ValueError(f'{named(bad)} hold values that are not finite')
            found = cls(tuple(content['classes']), content['vectors'], content['groups'])
            if not len(found.classes) == len(found.vectors) == len(found.groups):
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


def joined_vectors(parts: Sequence[Prototypes], num_classes: int) -> Tensor:
    """Return the prototypes of several steps by model id, ``(num_classes, D)``.

    Args:
        parts: Prototypes of at least one step.
        num_classes: Number of classes. Those without a prototype get zeros.
    """
    result = parts[0].vectors.new_zeros(num_classes, parts[0].vectors.shape[1])
    for part in parts:
        result[list(part.classes)] = part.vectors
    return result


def step_prototypes(
    model: IncrementalEncoderDecoder,
    batches: Iterable[DataBatch],
    classes: range,
    together: int | None = None,
    predicted: bool = False,
) -> Prototypes:
    """Return the prototypes of some classes; see :func:`reference.prototypes`.

    The model runs in evaluation mode without gradients and is put back into its mode. Sums are in
    float64, so the split of groups over processes affects only rounding.

    Args:
        model: The network whose embeddings are averaged.
        batches: This process's collated samples with ``gt_sem_seg`` in model ids. With several
            processes every process must call this function, even without a batch.
        classes: Model ids.
        together: Number of consecutive images whose pixels are averaged as one batch is; batches
            must lie within such groups. None: every batch is a group.
        predicted: A pixel belongs to the class that the network predicts, whatever its label.
    """
    weight = main_classifier(model)[1].weight
    total = weight.new_zeros(len(classes), weight.shape[1], dtype=torch.float64)
    groups = total.new_zeros(len(classes))
    sums, seen = total.new_zeros(len(classes), weight.shape[1] + 1), 0

    def close() -> None:
        pixels = sums[:, -1:]
        total.add_(sums[:, :-1] / pixels.clamp(min=1))
        groups.add_((pixels > 0).squeeze(1))
        sums.zero_()

    was_training = model.training
    model.eval()
    with torch.no_grad():
        for batch in batches:
            inputs, labels = prepared(model, batch)
            output = run_network(model, inputs)
            labels = output.logits.argmax(dim=1) if predicted else labels.squeeze(1)
            embedding = output.embedding.double()
            sums.add_(embedding_sums(embedding, labels.to(embedding.device), classes))
            seen += len(inputs)
            if together is None or seen % together == 0:
                close()
        close()
    model.train(was_training)
    all_reduce(total)
    all_reduce(groups)
    vectors = total / groups.clamp(min=1)[:, None]
    return Prototypes(tuple(classes), vectors.float().cpu(), groups.long().cpu())
