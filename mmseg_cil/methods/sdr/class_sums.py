"""Sums over the cells of each class, and over all processes."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Forms of the features of a class, see :class:`ClassCells`.
FORMS = ('fixed', 'official')
#: Label of a cell of no class.
NO_CLASS = -1


class ClassCells:
    """The cells of a batch by their class.

    The official code takes the features of a class out of a map ``(N, D, h, w)`` with a mask,
    which gives one row of numbers: image by image, channel by channel, cell by cell. It then cuts
    the row into lines as if it were sorted otherwise, so that a number counts for another channel
    than its own. With ``misplaced='lines'`` the row is cut into D lines, one a channel, which is
    right for a single image. With ``misplaced='columns'`` each line has D numbers, one a channel,
    which is never right. By default each number counts for its own channel.

    Args:
        features: ``(N, D, h, w)``, at least float32.
        labels: ``(N, h, w)`` ids; ids outside ``[0, C)`` are of no class.
        num_classes: C.
        misplaced: None, 'lines' or 'columns'.
    """

    def __init__(
        self, features: Tensor, labels: Tensor, num_classes: int, misplaced: str | None = None
    ) -> None:
        # (N, D, P): P cells an image.
        self.features = features.flatten(2)
        labels = labels.flatten(1)
        ids = torch.arange(num_classes, device=labels.device)
        # (C, N, P): ones where a cell is of a class.
        self.members = (labels == ids.view(-1, 1, 1)).to(features.dtype)
        self.counts = self.members.sum(dim=(1, 2))
        self._ids = labels.where((labels >= 0) & (labels < num_classes), 0)
        self._channels = None if misplaced is None else self._misplaced(misplaced)

    def _misplaced(self, cut: str) -> Tensor:
        """Return the channel ``(N, D, P)`` that each number counts for in the official code."""
        images, channels, _ = self.features.shape
        here = self.members.sum(dim=2).long()
        before = here.cumsum(dim=1) - here
        rank = (self.members.cumsum(dim=2) - self.members).long()
        # (N, P): each of these at the class of a cell.
        own = self._ids
        image = torch.arange(images, device=own.device).unsqueeze(1)
        count, first = here[own, image], before[own, image]
        rank = rank.gather(0, own.unsqueeze(0)).squeeze(0)
        channel = torch.arange(channels, device=own.device).view(1, -1, 1)
        place = channels * first.unsqueeze(1) + channel * count.unsqueeze(1) + rank.unsqueeze(1)
        if cut == 'columns':
            return place % channels
        return place // self.counts.long()[own].clamp(min=1).unsqueeze(1)

    def sums(self) -> Tensor:
        """Return the sum of features ``(C, D)`` over the cells of each class."""
        classes, (_, channels, _) = len(self.counts), self.features.shape
        if self._channels is None:
            return torch.einsum('cnp,ndp->cd', self.members, self.features)
        some = self.members.sum(dim=0).unsqueeze(1)
        places = self._ids.unsqueeze(1) * channels + self._channels
        flat = self.features.new_zeros(classes * channels)
        flat = flat.scatter_add(0, places.flatten(), (self.features * some).flatten())
        return flat.view(classes, channels)

    def squares(self, points: Tensor) -> Tensor:
        """Return the sum of squared distances ``(C,)`` of each class's cells from its point.

        Args:
            points: ``(C, D)``.
        """
        if self._channels is None:
            there = points[self._ids].transpose(1, 2)
        else:
            channels = self.features.shape[1]
            places = self._ids.unsqueeze(1) * channels + self._channels
            there = points.flatten()[places]
        each = (self.features - there).square().sum(dim=1)
        return torch.einsum('cnp,np->c', self.members, each)


def total_of_all(own: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes.

    The value is the same on all processes. The gradient is that of the value for this process's
    own numbers, times the number of processes, because the mean of the gradients over processes
    is what an optimizer sees. In a single process this is the identity.
    """
    size = get_world_size()
    if size == 1:
        return own
    total = own.detach().clone()
    all_reduce(total)
    return size * own + (total - size * own).detach()


def greatest_of_all(own: Tensor) -> Tensor:
    """Return the elementwise maximum of a tensor over all processes.

    The gradient of all processes goes to those that have the maximum.
    """
    found: Tensor = own if get_world_size() == 1 else _Greatest.apply(own)
    return found


class _Greatest(torch.autograd.Function):
    """See :func:`greatest_of_all`."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        greatest = own.clone()
        all_reduce(greatest, 'max')
        has = (own == greatest).to(own.dtype)
        holders = has.clone()
        all_reduce(holders)
        ctx.save_for_backward(has / holders)
        return greatest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (share,) = ctx.saved_tensors
        total = gradient.contiguous().clone()
        all_reduce(total)
        return total * share
