"""The losses of a segmentor on one batch: of heads, distillers and regularisers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from mmseg.models.decode_heads import PointHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.utils import SampleList, add_prefix
from torch import Tensor, nn

from mmseg_cil.contracts import (
    Batch,
    Distiller,
    Features,
    HeadLoss,
    NetworkChange,
    Replay,
    SelfSupervision,
)
from mmseg_cil.losses.hidden_classes import hidden_mask
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.models.head_losses import (
    has_own_losses,
    head_losses,
    pixels_of,
    stack_labels,
    summed_losses,
)
from mmseg_cil.models.heads import (
    all_auxiliary_heads,
    decode_heads,
    has_own_target,
    main_head,
)
from mmseg_cil.models.network_output import (
    ClassifierTap,
    tap_classifier,
    tap_stages,
)
from mmseg_cil.models.point_head import point_losses
from mmseg_cil.models.shared_trunk import SharedTrunk
from mmseg_cil.models.teachers import TeacherRecords, Teachers
from mmseg_cil.utils.devices import to_device
from mmseg_cil.utils.step_context import StepContext


class PixelsAt(Protocol):
    """A function that makes the shared pixels of a head from the head's logits."""

    def __call__(
        self, head: BaseDecodeHead, logits: Tensor, *, cuts: Sequence[int] = ...
    ) -> PixelLogits:
        """Return the pixels; without ``cuts``, with the cuts of the step's distillers."""


class StepLosses:
    """The part of our segmentors that computes losses; see ``IncrementalEncoderDecoder``."""

    step: StepContext
    distillers: nn.ModuleList
    regularisers: nn.ModuleList
    self_supervision: SelfSupervision | None
    backbone: nn.Module
    train_cfg: Mapping[str, object]
    extract_feat: Callable[[Tensor], Features]
    _teachers: Teachers
    _trunk: SharedTrunk
    _replay: Replay | None
    _teacher_readers: list[HeadLoss]
    _hidden_readers: list[HeadLoss]
    _sample_readers: list[HeadLoss]
    _change: NetworkChange
    _needs_stages: bool
    _needs_auxiliary: bool

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """Compute the losses of the heads, the distillers and the regularisers.

        Args:
            inputs: ``(N, 3, H, W)``, normalised.
            data_samples: Samples with ``gt_sem_seg`` in model ids.

        Returns:
            Losses (scalars) under the prefixes ``decode.`` (for a cascade ``decode_0.``,
            ``decode_1.``, ...), ``aux.`` (``aux_0.``, ``aux_1.``, ... for several
            auxiliary heads), ``distill.`` and ``regularise.``. Losses of several
            distillers, or regularisers, under one name are summed.

        Raises:
            RuntimeError: There is a teacher, and ``init_weights`` has not loaded it.
        """
        self._teachers.check_loaded()
        if self.self_supervision is not None:
            inputs, data_samples = self.self_supervision.turn(inputs, data_samples)
        replayed = 0
        if self._replay is not None:
            inputs, data_samples, replayed = self._replay.extend(inputs, data_samples)
        for reader in self._sample_readers:
            reader.receive_samples(data_samples)
        self._tell_hidden(data_samples, inputs.device)
        pixels_at = functools.partial(
            pixels_of, labels=stack_labels(data_samples), cuts=self._cuts(), replayed=replayed
        )
        features, stages, teachers = self._run_backbones(inputs)
        losses, tap, pixels = self._run_decode_heads(features, data_samples, pixels_at, teachers)
        of_auxiliary, auxiliary = self._run_auxiliary_heads(features, data_samples, pixels_at)
        losses.update(of_auxiliary)
        if len(self.distillers) > 0:
            _, main = main_head(self)  # type: ignore[arg-type]
            student = tap.output(features, main.align_corners, stages)
            if pixels is None or self._has_more_outputs:
                # No teacher has the further outputs, so the student's are cut off.
                student = replace(student, logits=student.logits[:, : self.step.num_seen])
                pixels = pixels_at(main, student.logits)
            losses.update(
                add_prefix(
                    self._distill(
                        Batch(student, pixels, teachers.last, teachers.named, auxiliary, replayed)
                    ),
                    'distill',
                )
            )
        losses.update(
            add_prefix(summed_losses(part(self) for part in self.regularisers), 'regularise')
        )
        for reader in self._teacher_readers:
            reader.receive_teacher(None)
        if self.self_supervision is not None:
            self.self_supervision.end()
        return losses

    def _run_backbones(self, inputs: Tensor) -> tuple[Features, list[Tensor], TeacherRecords]:
        """Return maps and tapped stages of backbone and neck, and the records of the teachers."""
        # Where student and teachers share frozen layers, the student runs these for all.
        shares = self._trunk.begin(self, self._teachers.networks)
        teachers = None if shares else self._run_teachers(inputs)
        with (
            tap_stages(self.backbone, self._needs_stages) as stages,
            self._trunk.keeping(self, self._needs_stages, shares),
        ):
            features = self.extract_feat(inputs)
        return features, stages, self._run_teachers(inputs) if teachers is None else teachers

    @property
    def _has_more_outputs(self) -> bool:
        """Training has more outputs than those of the classes."""
        return self.self_supervision is not None or self._change.extra_outputs > 0

    def _tell_hidden(self, data_samples: SampleList, device: torch.device) -> None:
        """Give the mask of each image's hidden classes to the losses that read this mask."""
        if self._hidden_readers:
            # Outputs of self-supervision come after those of the classes.
            turns = 1 if self.self_supervision is None else self.self_supervision.turns
            outputs = self.step.num_seen * turns + self._change.extra_outputs
            hidden = hidden_mask(
                [sample.metainfo.get('cil_hidden') for sample in data_samples],
                self.step.num_hidden,
                outputs,
            )
            hidden = None if hidden is None else to_device(hidden, device)
            for reader in self._hidden_readers:
                reader.receive_hidden(hidden)

    def _run_decode_heads(
        self,
        features: Features,
        data_samples: SampleList,
        pixels_at: PixelsAt,
        teachers: TeacherRecords,
    ) -> tuple[dict[str, Tensor], ClassifierTap, PixelLogits | None]:
        """Return the losses of the decode heads, and tap and pixels of the main head.

        Each head of a cascade gets the logits of the head before it for the same batch;
        MMSegmentation would run that head a second time.
        """
        losses: dict[str, Tensor] = {}
        _, main = main_head(self)  # type: ignore[arg-type]
        of_main: tuple[ClassifierTap, PixelLogits | None] = ClassifierTap(), None
        before: tuple[Tensor, ...] = ()
        for name, head in decode_heads(self).items():  # type: ignore[arg-type]
            prefix = name.replace('decode_head', 'decode').replace('.', '_')
            if isinstance(head, PointHead):
                own = point_losses(
                    head,
                    features,
                    before[0],
                    stack_labels(data_samples),
                    self.train_cfg,
                    teachers.last,
                )
            else:
                with tap_classifier(head) as tap:
                    own, pixels = self._run_head(head, (features, *before), data_samples, pixels_at)
                assert tap.logits is not None or head is main
                before = () if tap.logits is None else (tap.logits,)
                if head is main:
                    of_main = tap, pixels
            losses.update(add_prefix(own, prefix))
        return losses, *of_main

    def _run_head(
        self,
        head: BaseDecodeHead,
        inputs: tuple[Features, ...],
        data_samples: SampleList,
        pixels_at: PixelsAt,
    ) -> tuple[dict[str, Tensor], PixelLogits | None]:
        """Return the losses of a head, and their shared pixels; None if it has its own losses."""
        if has_own_losses(head):
            losses: dict[str, Tensor] = head.loss(*inputs, data_samples, self.train_cfg)
            return losses, None
        pixels = pixels_at(head, head.forward(*inputs))
        return head_losses(head, pixels), pixels

    def _run_auxiliary_heads(
        self, features: Features, data_samples: SampleList, pixels_at: PixelsAt
    ) -> tuple[dict[str, Tensor], list[PixelLogits | None]]:
        """Return the losses of the auxiliary heads, and the pixels of heads that classify."""
        losses: dict[str, Tensor] = {}
        auxiliary: list[PixelLogits | None] = []
        for name, head in all_auxiliary_heads(self).items():  # type: ignore[arg-type]
            if has_own_target(head):
                own = head.loss(features, data_samples, self.train_cfg)
            else:
                own, pixels = self._run_auxiliary(head, features, data_samples, pixels_at)
                auxiliary.append(pixels)
            losses.update(add_prefix(own, name.replace('auxiliary_head', 'aux').replace('.', '_')))
        return losses, auxiliary

    def _run_auxiliary(
        self,
        head: BaseDecodeHead,
        features: Features,
        data_samples: SampleList,
        pixels_at: PixelsAt,
    ) -> tuple[dict[str, Tensor], PixelLogits | None]:
        """Return the losses of an auxiliary head, and its pixels for distillers that read them."""
        if not self._needs_auxiliary:
            # Without a distiller that reads them, groups of classes would only cost time.
            return self._run_head(
                head, (features,), data_samples, functools.partial(pixels_at, cuts=())
            )
        with tap_classifier(head) as tap:
            own, pixels = self._run_head(head, (features,), data_samples, pixels_at)
        if pixels is None or self._has_more_outputs:
            assert tap.logits is not None
            pixels = pixels_at(head, tap.logits[:, : self.step.num_seen])
        return own, pixels

    def _cuts(self) -> Sequence[int]:
        """Return the bounds of the groups of classes in distillation: 1, and each teacher's O."""
        known = [config['num_classes'] for config in self._teachers.configs.values()]
        wanted = [cut for distiller in self._own_distillers() for cut in distiller.cuts()]
        return (1, *known, *wanted) if known else ()

    def _own_distillers(self) -> Iterator[Distiller]:
        for distiller in self.distillers:
            assert isinstance(distiller, Distiller)
            yield distiller

    def _run_teachers(self, inputs: Tensor) -> TeacherRecords:
        """Run the teachers, and give the last teacher's record to the losses that read it."""
        records = self._teachers.run(
            inputs,
            self._needs_stages,
            self._needs_auxiliary,
            functools.partial(self._trunk.run, self),
        )
        self._trunk.forget()
        if records.last is not None:
            for reader in self._teacher_readers:
                reader.receive_teacher(records.last)
        return records

    def _distill(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of the distillers; each distiller gets what it needs of the batch."""
        return summed_losses(
            distiller(batch.for_needs(distiller.needs)) for distiller in self._own_distillers()
        )
