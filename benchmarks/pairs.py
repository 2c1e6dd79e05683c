"""Measures the memory of UCD's contrast in chunks against that of the plain formula.

The plain formula (``mmseg_cil/methods/ucd/reference.py``) makes matrices of all pairs of cells, and
autograd keeps several of them. Values and gradients of both forms are compared before anything
is measured.

    python benchmarks/pairs.py [--device cuda] [--images 2 6 12] [--channels 256] [--quick]

Memory is the peak of a forward and backward pass beyond the inputs: on a GPU as PyTorch's allocator
counts it, on a CPU as the greatest sum of the tensors that are alive. The cells are those of
crops of 512 at stride 16, 1024 an image, a third of them background. Exits with 1 if forms differ.
"""

from __future__ import annotations

import argparse
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmseg_cil.methods.ucd.pairs import LEFT_OUT, Cells, Pairing, contrast_sum
from mmseg_cil.methods.ucd.reference import contrast, pair_weights

#: Largest difference between the forms, over the largest expected value.
TOLERANCE = 1e-5
OLD, NEW = 16, 5


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of the tensors that operators make, as long as these are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        arguments: Sequence[Any] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator and count what it made; views and results in place are no new bytes."""
        # Storages of the arguments are older than this operator, or counted.
        older = {
            tensor.untyped_storage()._cdata
            for tensor in tree_leaves((arguments, keywords))
            if isinstance(tensor, Tensor)
        }
        result = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in older:
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def draw(images: int, channels: int, side: int, device: str) -> tuple[Cells, Cells]:
    """Return the anchors of a batch, and all cells that they are compared with.

    Half of the labels come from the teacher; its embeddings are near the student's.
    """
    torch.manual_seed(0)
    count = images * side * side
    labels = torch.randint(1, OLD + NEW, (count,), device=device)
    labels[: count // 3] = LEFT_OUT
    sure = labels >= (OLD + NEW) // 2
    # Embeddings of a class have a direction in common, as trained ones do.
    centres = torch.randn(OLD + NEW, channels, device=device)[labels.clamp(min=0)]
    student, teacher = (
        normalize(centres + torch.randn(count, channels, device=device), dim=1) for _ in range(2)
    )
    probabilities = (3 * torch.randn(count, OLD, device=device)).softmax(dim=1)
    anchors = Cells(student, labels, sure, probabilities)
    others = Cells(teacher, labels.masked_fill(sure, LEFT_OUT), sure, probabilities)
    return anchors, Cells(*(torch.cat(parts) for parts in zip(anchors, others, strict=True)))


def in_chunks(vectors: Tensor, anchors: Cells, others: Cells) -> Tensor:
    """Return the loss as training computes it."""
    total, number = contrast_sum(anchors._replace(vectors=vectors), others, Pairing())
    return total / number.clamp(min=1)


def plain(vectors: Tensor, anchors: Cells, others: Cells) -> Tensor:
    """Return the loss from matrices of the pairs of the cells that are compared."""
    own, there = anchors.labels != LEFT_OUT, others.labels != LEFT_OUT
    chosen = Cells(*(part[own] for part in anchors._replace(vectors=vectors)))
    everything = Cells(*(part[there] for part in others))
    weights = pair_weights(
        chosen.probabilities, everything.probabilities, chosen.sure, everything.sure
    )
    return contrast(
        chosen.vectors,
        everything.vectors,
        chosen.labels,
        everything.labels,
        weights,
    ).mean()


Form = Callable[[Tensor, Cells, Cells], Tensor]


def run(form: Form, anchors: Cells, others: Cells) -> tuple[Tensor, Tensor]:
    """Return value and gradient."""
    vectors = anchors.vectors.detach().requires_grad_()
    loss = form(vectors, anchors, others)
    (gradient,) = torch.autograd.grad(loss, vectors)
    return loss.detach(), gradient


def measured(form: Form, anchors: Cells, others: Cells) -> tuple[float, float]:
    """Return the seconds of a run, and its peak in MiB beyond the inputs."""
    cuda = anchors.vectors.is_cuda
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    start = time.perf_counter()
    run(form, anchors, others)
    if cuda:
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        return seconds, (torch.cuda.max_memory_allocated() - before) / 2**20
    seconds = time.perf_counter() - start
    with PeakMemory() as memory:
        run(form, anchors, others)
    return seconds, memory.peak / 2**20


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--images', type=int, nargs='+', default=[1, 2, 4])
    parser.add_argument('--channels', type=int, default=256)
    parser.add_argument('--quick', action='store_true', help='small maps, only to see it run')
    arguments = parser.parse_args()
    side = 8 if arguments.quick else 32
    print(f'{"images":>6} {"cells":>7} {"pairs":>11}   peak memory of plain and chunks, time')
    wrong = False
    for images in arguments.images:
        anchors, others = draw(images, arguments.channels, side, arguments.device)
        ours, theirs = (run(form, anchors, others) for form in (in_chunks, plain))
        off = max(
            float((own - other).abs().max() / other.abs().max())
            for own, other in zip(ours, theirs, strict=True)
        )
        (slow, much), (fast, little) = (
            measured(form, anchors, others) for form in (plain, in_chunks)
        )
        pairs = len(anchors.labels) * len(others.labels)
        print(
            f'{images:6d} {len(anchors.labels):7d} {pairs:11d}   '
            f'{much:9.1f} MiB {little:8.1f} MiB {much / little:6.1f} times less, '
            f'{slow:7.3f} s {fast:7.3f} s, differ by {off:.1e}'
        )
        if not off < TOLERANCE:
            print(f'the forms differ by {off:.1e} with {images} images', file=sys.stderr)
            wrong = True
    return int(wrong)


if __name__ == '__main__':
    sys.exit(main())
