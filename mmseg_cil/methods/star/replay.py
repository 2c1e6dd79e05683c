"""The replay of old classes as drawn embeddings: how many, and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmseg_cil.losses.foreground import without_background
from mmseg_cil.losses.precision import at_least_float32
from mmseg_cil.methods.star.statistics import ClassStatistics, background_before

FORMS = ('fixed', 'official')
#: The logit above which the teacher sees a class. A logit of 0 is a sigmoid of 0.5; the official
#: code compares the logit itself with 0.5.
THRESHOLDS = {'fixed': 0.0, 'official': 0.5}


@dataclass(frozen=True)
class Replay:
    """The embeddings that are drawn in each iteration, and the weight of real background.

    Attributes:
        prototypes: ``(F, D)``.
        noise: ``(F, D)``.
        norm_mean: ``(F,)``.
        norm_std: ``(F,)``.
        index: ``(n,)`` int64, the class of each drawn embedding, counted from the first foreground
            class.
        background_ratio: How often each background cell counts besides its own time.
    """

    prototypes: Tensor
    noise: Tensor
    norm_mean: Tensor
    norm_std: Tensor
    index: Tensor
    background_ratio: float

    def to(self, device: torch.device) -> Replay:
        """Return the replay with its tensors on a device."""
        return Replay(
            self.prototypes.to(device),
            self.noise.to(device),
            self.norm_mean.to(device),
            self.norm_std.to(device),
            self.index.to(device),
            self.background_ratio,
        )

    def draw(self, seed: int) -> Tensor:
        """Return embeddings ``(n, D)`` that depend on the seed and on the device's generator."""
        generator = torch.Generator(device=self.index.device).manual_seed(seed)
        shape = len(self.index), self.prototypes.shape[1]
        direction, length = (
            torch.randn(shape, generator=generator, device=self.index.device) for _ in range(2)
        )
        return self.made_of(direction, length)

    def made_of(self, direction: Tensor, length: Tensor) -> Tensor:
        r"""Return the embeddings :math:`(p_c + e \, \nu_c)(e' \, \sigma_c + \mu_c)`.

        Source: Chen et al., NeurIPS 2023; jinpeng0528/STAR ``trainer/trainer_voc.py``. The length
        is drawn for each channel anew, as in the official code.

        Args:
            direction: e, ``(n, D)`` normal numbers.
            length: e', ``(n, D)`` normal numbers.
        """
        # Rows are repeated by index, which needs no knowledge of the device's content.
        prototypes, noise = (table[self.index] for table in (self.prototypes, self.noise))
        std, mean = (table[self.index, None] for table in (self.norm_std, self.norm_mean))
        return (prototypes + direction * noise) * (length * std + mean)


def replay_of(
    earlier: ClassStatistics,
    predicted: Tensor,
    iterations: float,
    num_new: int,
    subtract: bool,
) -> Replay:
    r"""Return what a step replays in each iteration.

    An old class gets as many cells as its own step had, less those that the teacher sees in this
    step's images, spread over the iterations of one pass over these images. Real background cells
    make up for the background of earlier steps.

    Source: jinpeng0528/STAR ``trainer/trainer_voc.py``, ``per_iter_prev_number`` and
    ``extra_bg_ratio``.

    Args:
        earlier: Statistics of the F old foreground classes, from
            :func:`~mmseg_cil.methods.star.statistics.joined`.
        predicted: ``(F + 1,)``, numbers of cells of one pass that the teacher predicts as
            background and as each old class, where no new class is.
        iterations: Iterations of one pass.
        num_new: Number of the step's new classes.
        subtract: Subtract what the teacher sees (overlapped), or not (disjoint).
    """
    seen = predicted[1:] if subtract else torch.zeros_like(predicted[1:])
    numbers = ((earlier.counts - seen) / iterations).long().clamp(min=0)
    real = float(predicted[0])
    before = background_before(earlier.background, num_new, subtract)
    ratio = before / real if real else 0.0
    return Replay(
        earlier.prototypes,
        earlier.noise,
        earlier.norm_mean,
        earlier.norm_std,
        torch.arange(len(numbers)).repeat_interleave(numbers),
        max(0.0, ratio - (0.5 if subtract else 0.0)),
    )


def teacher_classes(teacher_logits: Tensor, form: str) -> Tensor:
    """Return the classes that a teacher predicts, ``(N, h, w)``: 0 where it sees no foreground.

    Args:
        teacher_logits: ``(N, O, h, w)``, the background first.
        form: One of :data:`FORMS`.
    """
    foreground = without_background(at_least_float32(teacher_logits))
    if foreground.shape[1] == 0:
        return teacher_logits.new_zeros(
            (len(teacher_logits), *teacher_logits.shape[2:]), dtype=torch.int64
        )
    greatest, classes = foreground.max(dim=1)
    return (classes + 1).masked_fill(greatest <= THRESHOLDS[form], 0)
