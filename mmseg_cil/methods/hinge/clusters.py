"""Clusters of the embeddings of a class, of which some have many kinds of things."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import torch
from mmengine.dist import all_gather_object
from torch import Tensor

from mmseg_cil.hooks.step_images import spread_indices
from mmseg_cil.losses.cells import at_cells

#: The most cells of a class in an image, and in all images, that are clustered; our choice.
CELLS_OF_IMAGE = 200
CELLS = 6000
#: Rounds of Lloyd's algorithm.
ROUNDS = 20


class ClassCells:
    """Cells of the embedding of some classes, spread evenly over each image.

    Args:
        classes: Model ids.
    """

    def __init__(self, classes: Sequence[int]) -> None:
        #: For each class, ``(n, D)`` float32 on the CPU for each image of this process, in order.
        self._images: dict[int, list[Tensor]] = {class_id: [] for class_id in classes}

    def add(self, embedding: Tensor, labels: Tensor) -> None:
        """Take the cells of a batch.

        Args:
            embedding: ``(N, D, h, w)``.
            labels: ``(N, 1, H, W)`` model ids; a cell has the label of its nearest pixel.
        """
        small = at_cells(labels.squeeze(1), embedding.shape[2:])
        for vectors, label in zip(embedding.movedim(1, -1), small, strict=True):
            for class_id, images in self._images.items():
                own = vectors[label == class_id]  # (n, D)
                images.append(own[spread_indices(len(own), CELLS_OF_IMAGE)].cpu())

    def of_all_processes(self) -> dict[int, Tensor]:
        """Return at most :data:`CELLS` cells ``(n, D)`` of each class with cells.

        They are those of all processes, each of which must call this function. Images are taken
        in turns from the processes, as they were dealt out, so the cells are the same on any
        number of processes.
        """
        if not self._images:
            return {}
        dealt: list[dict[int, list[Tensor]]] = all_gather_object(self._images)
        found = {}
        for class_id in self._images:
            turns = zip_longest(*(own[class_id] for own in dealt))
            images = [image for turn in turns for image in turn if image is not None and len(image)]
            if images:
                cells = torch.cat(images)
                found[class_id] = cells[spread_indices(len(cells), CELLS)]
        return found


def clusters(cells: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the centres of k-means clusters, and their numbers of cells.

    The first centres are cells spread evenly over all, so that nothing is drawn.

    Args:
        cells: ``(n, D)`` on the CPU, at least a cell.
        count: Number of clusters; fewer come back where there are fewer different cells.

    Returns:
        Centres ``(K, D)`` float32, and numbers of cells ``(K,)`` int64, all above 0.
    """
    from scipy.cluster.vq import kmeans2, vq

    first = cells[spread_indices(len(cells), count)].unique(dim=0)
    data = cells.double().numpy()
    centres, _ = kmeans2(data, first.double().numpy(), iter=ROUNDS, minit='matrix')
    nearest = torch.from_numpy(vq(data, centres)[0]).long()
    counts = torch.bincount(nearest, minlength=len(centres))
    return torch.from_numpy(centres).float()[counts > 0], counts[counts > 0]
