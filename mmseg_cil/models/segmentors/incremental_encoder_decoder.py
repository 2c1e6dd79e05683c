"""An encoder-decoder that grows with the steps and learns from earlier snapshots."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmseg.models.segmentors import EncoderDecoder
from mmseg.utils import OptSampleList, SampleList, add_prefix
from torch import Tensor, nn

from mmseg_cil.errors import InputError
from mmseg_cil.models.classifier import classifier_init
from mmseg_cil.models.network_output import NetworkOutput, tap_classifier
from mmseg_cil.models.plain import PLAIN_PREFIXES
from mmseg_cil.models.teacher import Teacher, load_matching, load_plain_state
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext


@MODELS.register_module()
class IncrementalEncoderDecoder(EncoderDecoder):
    """MMSegmentation's ``EncoderDecoder`` at one step of a walk.

    It works with every head that classifies with ``conv_seg``; auxiliary heads
    grow too. Student and teacher each run once per batch and leave one
    :class:`~mmseg_cil.models.network_output.NetworkOutput`, from which all
    distillers read. The scheduler writes the arguments below into the config
    of each step; users do not.

    Args:
        step: Plain form of a :class:`~mmseg_cil.utils.step_context.StepContext`.
        previous: Checkpoint of the last step, from which training starts, as
            ``dict(checkpoint=path, num_classes=n)``. None at step 0.
        teacher: The same for the snapshot to learn from. None where there is none.
        distillers: Configs of distillers; built, and the teacher loaded, only
            where there is a teacher.
        classifier_init: How the rows of new classes begin (see
            :data:`~mmseg_cil.models.classifier.CLASSIFIER_INITS`).
        **network: Arguments of ``EncoderDecoder``.

    Raises:
        InputError: A head has no ``conv_seg``, its number of classes is not
            that of the step, or ``classifier_init`` does not fit.
    """

    def __init__(self,
                 *,
                 step: dict,
                 previous: dict | None = None,
                 teacher: dict | None = None,
                 distillers: Sequence[dict] = (),
                 classifier_init: str = 'random',
                 **network: Any) -> None:
        self_config = copy.deepcopy(network)
        super().__init__(**network)
        self.step = StepContext.from_config(step)
        self._network_config = self_config
        self._previous = previous
        self._classifier_init = classifier_init
        self._teacher_config = teacher
        # A plain attribute of a class that is no Module: invisible to state
        # dict, optimizer and DDP.
        self._teacher: Teacher | None = None
        self.distillers = nn.ModuleList(
            MODELS.build(one) for one in (distillers if teacher is not None else ()))
        self._check_heads()
        for module in self.modules():
            if module is not self and hasattr(module, 'set_step'):
                module.set_step(self.step)

    @property
    def heads(self) -> dict[str, nn.Module]:
        """Decode head and auxiliary heads under their prefix in the state dict."""
        heads = {'decode_head': self.decode_head}
        if self.with_auxiliary_head:
            if isinstance(self.auxiliary_head, nn.ModuleList):
                heads.update({f'auxiliary_head.{i}': head
                              for i, head in enumerate(self.auxiliary_head)})
            else:
                heads['auxiliary_head'] = self.auxiliary_head
        return heads

    def _check_heads(self) -> None:
        for name, head in self.heads.items():
            classifier = getattr(head, 'conv_seg', None)
            if not isinstance(classifier, nn.Conv2d):
                raise InputError(
                    f'{name} ({type(head).__name__}) has no convolution conv_seg as its '
                    'classifier, so it cannot grow: use a head that classifies with conv_seg '
                    '(ASPPHead, DepthwiseSeparableASPPHead, PSPHead, FCNHead, UPerHead, '
                    'SegformerHead, ...)')
            if classifier.out_channels != self.step.num_seen:
                raise InputError(f'{name} has {classifier.out_channels} outputs, the step has '
                                 f'{self.step.num_seen} classes')

    def init_weights(self) -> None:
        """Initialises as MMSegmentation does at step 0, else from the last step's checkpoint."""
        if self._previous is None:
            super().init_weights()
        else:
            for head in self.heads.values():
                head.init_weights()  # type: ignore[operator]
            self._grow_from(self._previous)
            self._is_init = True
        if self._teacher_config is not None:
            self._teacher = Teacher(
                dict(self._network_config, type='EncoderDecoder'), **self._teacher_config)

    def _grow_from(self, previous: dict) -> None:
        state = load_plain_state(previous['checkpoint'], previous['num_classes'])
        grow = classifier_init(self._classifier_init, self.step.has_background)
        added = self.step.num_seen - previous['num_classes']
        if added:
            for name, head in self.heads.items():
                weight, bias = (f'{name}.conv_seg.{part}' for part in ('weight', 'bias'))
                fresh: Any = head.conv_seg
                with torch.no_grad():
                    state[weight], state[bias] = grow(state[weight], state[bias],
                                                      fresh.weight[-added:].cpu(),
                                                      fresh.bias[-added:].cpu())
        plain = nn.ModuleDict({prefix.rstrip('.'): getattr(self, prefix.rstrip('.'))
                               for prefix in PLAIN_PREFIXES
                               if isinstance(getattr(self, prefix.rstrip('.'), None), nn.Module)})
        load_matching(plain, state, previous['checkpoint'])

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of the heads and of the distillers.

        Args:
            inputs: ``(N, 3, H, W)``, normalised.
            data_samples: With ``gt_sem_seg`` in model ids.

        Returns:
            Losses under the prefixes ``decode.``, ``aux.`` and ``distill.``.
        """
        features = self.extract_feat(inputs)
        with tap_classifier(self.decode_head) as tap:
            losses = self._decode_head_forward_train(features, data_samples)
        if self.with_auxiliary_head:
            losses.update(self._auxiliary_head_forward_train(features, data_samples))
        if self._teacher is not None and len(self.distillers):
            student = tap.output(features, self.align_corners)
            size = data_samples[0].gt_sem_seg.shape[-2:]
            losses.update(add_prefix(self._distill(inputs, student, size), 'distill'))
        return losses

    def _distill(self, inputs: Tensor, student: NetworkOutput,
                 size: torch.Size) -> dict[str, Tensor]:
        assert self._teacher is not None
        teacher = self._teacher(inputs)
        losses: dict[str, Tensor] = {}
        for distiller in self.distillers:
            for name, loss in distiller(student, teacher, size).items():
                losses[name] = losses[name] + loss if name in losses else loss
        return losses

    def postprocess_result(self,
                           seg_logits: Tensor,
                           data_samples: OptSampleList = None) -> SampleList:
        """As in MMSegmentation, but a single output means the background everywhere.

        MMSegmentation takes one output for binary segmentation and thresholds
        its sigmoid; at a step that has seen the background alone that is wrong.
        """
        samples = super().postprocess_result(seg_logits, data_samples)
        if seg_logits.shape[1] == 1:
            for sample in samples:
                sample.pred_sem_seg.data = torch.zeros_like(sample.pred_sem_seg.data).long()
        return samples

    def plain_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Named parameters of the plain network: those that a checkpoint carries on."""
        return ((name, parameter) for name, parameter in self.named_parameters()
                if name.startswith(PLAIN_PREFIXES))
