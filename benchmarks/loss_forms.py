"""The losses that ``benchmarks/losses.py`` compares: each in plain and in fast form.

The plain form is the formula as it is written; the fast form is that of the package. Sizes are
those of a DeepLabV3 with ResNet-101, output stride 16, and a crop of 512 x 512: logits of 32 x 32
that the losses compare at 512 x 512, and for Local POD and the pooled cube four stages, the ASPP
output and the logits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from loss_cases import Case, Form, Group
from map_forms import map_cases, plain_cube, plain_pod, vdfd_cases

from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.methods.baselines.lwf import shared_knowledge_distillation
from mmseg_cil.methods.baselines.lwf_mc import (
    shared_sigmoid_cross_entropy,
    shared_sigmoid_distillation,
)
from mmseg_cil.methods.baselines.reference import knowledge_distillation
from mmseg_cil.methods.dkd.loss import DenseKnowledgeDistillationLoss
from mmseg_cil.methods.dkd.reference import dense_knowledge_distillation
from mmseg_cil.methods.dkd.task_pool import groups_of_pool
from mmseg_cil.methods.mib.reference import unbiased_cross_entropy, unbiased_knowledge_distillation
from mmseg_cil.methods.mib.unbiased_cross_entropy import (
    shared_unbiased_cross_entropy,
    shared_unbiased_cross_entropy_by_image,
)
from mmseg_cil.methods.mib.unbiased_distillation import shared_unbiased_knowledge_distillation
from mmseg_cil.methods.plop.local_pod import local_pod_distance
from mmseg_cil.methods.plop.pseudo_labels import pseudo_labels
from mmseg_cil.methods.plop.reference import uncertainty
from mmseg_cil.methods.rcil.pooled_cube import pooled_cube_distance
from mmseg_cil.utils.step_context import StepContext

# Cross-entropy and distillation at every pixel.


def enlarged(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits at the size of the labels."""
    return functional.interpolate(logits, labels.shape[1:], mode='bilinear', align_corners=False)


def plain_mib(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Both losses, each from enlarged logits of its own, as separate modules have them."""
    cross_entropy = unbiased_cross_entropy(enlarged(student, labels), labels, teacher.shape[1])
    distillation = unbiased_knowledge_distillation(
        enlarged(student, labels), enlarged(teacher, labels)
    )
    return torch.stack([cross_entropy.mean(), 10 * distillation.mean()])


def fast_mib(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Both losses from one pass that is shared."""
    pixels = PixelLogits(student, labels, cuts=(1, teacher.shape[1]))
    return torch.stack(
        [
            shared_unbiased_cross_entropy(pixels, teacher.shape[1]).mean(),
            10 * shared_unbiased_knowledge_distillation(pixels, teacher).mean(),
        ]
    )


def plain_lwf(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """PyTorch's cross-entropy and distillation, each from enlarged logits of its own."""
    cross_entropy = functional.cross_entropy(
        enlarged(student, labels), labels, ignore_index=255, reduction='none'
    )
    distillation = knowledge_distillation(enlarged(student, labels), enlarged(teacher, labels))
    return torch.stack([cross_entropy.mean(), 100 * distillation.mean()])


def fast_lwf(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Both losses from one pass that is shared."""
    pixels = PixelLogits(student, labels, cuts=(1, teacher.shape[1]))
    return torch.stack(
        [
            shared_unbiased_cross_entropy(pixels, 0).mean(),
            100 * shared_knowledge_distillation(pixels, teacher).mean(),
        ]
    )


def certain_classes(count: int, device: torch.device) -> Tensor:
    """Thresholds that let every second class be a pseudo-label: rounding must not decide."""
    return (torch.arange(count, device=device) % 2).float()


def pseudo_labelled(large: Tensor, labels: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """Return PLOP's labels and factors ``(N, 1, 1)`` from the enlarged logits of the teacher."""
    predicted, known = large.argmax(dim=1), labels < large.shape[1]
    sure = uncertainty(large) < thresholds[predicted]
    completed = torch.where(known, predicted.masked_fill(~sure, 255), labels)
    factors = (known & sure).sum(dim=(1, 2)) / (known.sum(dim=(1, 2)) + 1e-6)
    return completed, factors[:, None, None]


def plain_plop(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Entropy and prediction of the enlarged teacher, PyTorch's cross-entropy on the labels."""
    thresholds = certain_classes(student.shape[1], labels.device)
    completed, factors = pseudo_labelled(enlarged(teacher, labels), labels, thresholds)
    loss = functional.cross_entropy(
        enlarged(student, labels), completed, ignore_index=255, reduction='none'
    )
    return (loss * factors).mean()


def fast_plop(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Both from passes that keep nothing of the size of the enlarged logits."""
    classes = student.shape[1]
    completed, factors = pseudo_labels(labels, teacher, certain_classes(classes, labels.device))
    loss = shared_unbiased_cross_entropy(PixelLogits(student, completed), 0)
    return (loss * factors).mean()


def plain_lwf_mc(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """PyTorch's binary cross-entropy with labels and with the teacher as targets."""
    large = enlarged(student, labels)
    ignored = (labels == 255).unsqueeze(1)
    classes = torch.arange(large.shape[1], device=labels.device).view(1, -1, 1, 1)
    targets = (labels.unsqueeze(1) == classes).to(large)
    each = functional.binary_cross_entropy_with_logits(large, targets, reduction='none')
    soft = enlarged(teacher, labels).sigmoid()
    old = functional.binary_cross_entropy_with_logits(
        large[:, : soft.shape[1]], soft, reduction='none'
    )
    return torch.stack(
        [each.masked_fill(ignored, 0.0).sum(dim=1).mean(), 10 * old.sum(dim=1).mean()]
    )


def fast_lwf_mc(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Both block by block."""
    pixels = PixelLogits(student, labels)
    return torch.stack(
        [
            shared_sigmoid_cross_entropy(pixels).mean(),
            10 * shared_sigmoid_distillation(pixels, teacher).mean(),
        ]
    )


def hidden_by_image(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the classes that hide in the background; every second image is an exemplar."""
    hidden = torch.zeros(student.shape[:2], dtype=torch.bool, device=student.device)
    hidden[:, : teacher.shape[1]] = True
    hidden[1::2, 1 : teacher.shape[1] : 2] = False
    return hidden


def plain_exemplars(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """MiB's cross-entropy from enlarged logits without the classes that do not hide."""
    large, hidden = enlarged(student, labels), hidden_by_image(student, teacher)
    background = large.masked_fill(~hidden[..., None, None], -torch.inf).logsumexp(dim=1)
    index = labels.masked_fill(labels == 255, 0).unsqueeze(1)
    hides = hidden.gather(1, index.flatten(1)).view_as(labels)
    own = torch.where(hides, background, large.gather(1, index).squeeze(1))
    return (large.logsumexp(dim=1) - own).masked_fill(labels == 255, 0.0).mean()


def fast_exemplars(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Sum two passes, block by block."""
    pixels = PixelLogits(student, labels)
    hidden = hidden_by_image(student, teacher)
    return shared_unbiased_cross_entropy_by_image(pixels, hidden).mean()


def draw_logits(old: int, new: int, crop: int) -> Callable[[str, int], tuple[Tensor, ...]]:
    """Logits at stride 16 and labels: half background, some ignored, the rest new classes."""

    def draw(device: str, batch: int) -> tuple[Tensor, ...]:
        side = crop // 16
        teacher = 3 * torch.randn(batch, old, side, side, device=device)
        student = 3 * torch.randn(batch, old + new, side, side, device=device)
        labels = torch.randint(old, old + new, (batch, crop, crop), device=device)
        labels[:, : crop // 2] = 0
        labels[:, : crop // 64] = 255
        return student, teacher, labels

    return draw


def pixel_cases(name: str, plain: Form, fast: Form) -> Callable[[bool], list[Case]]:
    """ADE20K 100-50 and VOC 15-5: old and new classes, background counted."""

    def cases(quick: bool) -> list[Case]:
        crop = 64 if quick else 512
        return [
            Case(
                f'{name}, {old} + {new}',
                f'{old + new}x{crop}x{crop}',
                draw_logits(old, new, crop),
                plain,
                fast,
            )
            for old, new in ((101, 50), (16, 5))
        ]

    return cases


# DKD: every subset of the old tasks.


def dkd_forms(counts: tuple[int, ...]) -> tuple[Form, Form]:
    """Unbiased cross-entropy and DKD over all subsets of the old tasks, plain and fast.

    Args:
        counts: New classes of every step, the present one the last.
    """
    *old, _ = counts
    ends = [sum(old[: task + 1]) for task in range(len(old))]
    groups = [
        [label for task in group for label in range(ends[task] - old[task], ends[task])]
        for group in groups_of_pool('all_subsets', old)
    ]
    loss = DenseKnowledgeDistillationLoss(weighting='constant')
    loss.set_step(StepContext.of_class_counts(counts))

    def plain(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        cross_entropy = unbiased_cross_entropy(enlarged(student, labels), labels, teacher.shape[1])
        each = dense_knowledge_distillation(
            enlarged(student, labels), enlarged(teacher, labels), groups
        )
        return torch.stack([cross_entropy.mean(), each[labels != 255].mean()])

    def fast(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        pixels = PixelLogits(student, labels, cuts=(*loss.cuts(), 1))
        return torch.stack(
            [
                shared_unbiased_cross_entropy(pixels, teacher.shape[1]).mean(),
                loss.of_pixels(pixels, teacher),
            ]
        )

    return plain, fast


def dkd_cases(quick: bool) -> list[Case]:
    """VOC 15-1 at steps 3 and 5, of 7 and 31 subsets, and ADE20K 100-10 at step 2, of 3."""
    crop = 64 if quick else 512
    walks = (
        ('15-1, 3 tasks', (16, 1, 1, 1)),
        ('15-1, 5 tasks', (16, 1, 1, 1, 1, 1)),
        ('100-10, 2 tasks', (101, 10, 10)),
    )
    return [
        Case(
            f'DKD {name}',
            f'{sum(counts)}x{crop}x{crop}',
            draw_logits(sum(counts[:-1]), counts[-1], crop),
            *dkd_forms(counts),
        )
        for name, counts in walks
    ]


GROUPS = {
    'mib': Group(
        'unbiased cross-entropy and distillation',
        pixel_cases('MiB', plain_mib, fast_mib),
        faster=2.0,
        memory=0.6,
    ),
    'lwf': Group(
        'cross-entropy and distillation', pixel_cases('LwF', plain_lwf, fast_lwf), faster=1.0
    ),
    'dkd': Group(
        'unbiased cross-entropy and DKD over all subsets', dkd_cases, faster=2.0, memory=0.6
    ),
    'plop': Group(
        'cross-entropy with pseudo-labels', pixel_cases('PLOP', plain_plop, fast_plop), faster=1.0
    ),
    'lwf_mc': Group(
        'binary cross-entropy and distillation',
        pixel_cases('LwF-MC', plain_lwf_mc, fast_lwf_mc),
        faster=1.0,
        memory=0.6,
    ),
    'exemplars': Group(
        'unbiased cross-entropy where exemplars are replayed',
        pixel_cases('exemplars', plain_exemplars, fast_exemplars),
        faster=1.0,
        memory=0.6,
    ),
    'pod': Group('local POD', map_cases('POD', plain_pod, local_pod_distance), faster=4.0),
    'cube': Group('pooled cube', map_cases('cube', plain_cube, pooled_cube_distance), faster=5.0),
    'vdfd': Group('VDFD: changes of earlier outputs', vdfd_cases, faster=2.0),
}
