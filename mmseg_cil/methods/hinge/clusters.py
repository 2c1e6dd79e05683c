"""Clusters of the background's embeddings: the background has many kinds of things."""

from __future__ import annotations

from itertools import zip_longest

import torch
from mmengine.dist import all_gather_object
from torch import Tensor
from torch.nn import functional

from mmseg_cil.hooks.step_images import spread_indices

#: The most cells of an image, and of all images, that are clustered; our choice.
CELLS_OF_IMAGE = 200
CELLS = 6000
#: Rounds of Lloyd's algorithm.
ROUNDS = 20


class BackgroundCells:
    """Cells of the embedding with the label 0, spread evenly over each image."""

    def __init__(self) -> None:
        #: ``(n, D)`` float32 on the CPU for each image of this process, in their order.
        self._images: list[Tensor] = []

    def add(self, embedding: Tensor, labels: Tensor) -> None:
        """Take the cells of a batch.

        Args:
            embedding: ``(N, D, h, w)``.
            labels: ``(N, 1, H, W)`` model ids; a cell has the label of its nearest pixel.
        """
        labels = functional.interpolate(labels.float(), embedding.shape[2:], mode='nearest')
        for vectors, label in zip(embedding.movedim(1, -1), labels.squeeze(1), strict=True):
            own = vectors[label == 0]  # (n, D)
            self._images.append(own[spread_indices(len(own), CELLS_OF_IMAGE)].cpu())

    def of_all_processes(self) -> Tensor:
        """Return at most :data:`CELLS` cells ``(n, D)``, spread over the images of all processes.

        Images are taken in turns from the processes, as they were dealt out, so the cells are
        the same on any number of processes.
        """
        dealt: list[list[Tensor]] = all_gather_object(self._images)
        images = [image for turn in zip_longest(*dealt) for image in turn if image is not None]
        cells = torch.cat(images)
        return cells[spread_indices(len(cells), CELLS)]


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
