"""An encoder-decoder that grows with the steps and learns from earlier snapshots."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.utils import OptSampleList, SampleList, add_prefix
from torch import Tensor, nn

from mmseg_cil.errors import UNREADABLE, InputError
from mmseg_cil.losses.hidden_classes import hidden_mask
from mmseg_cil.losses.pixel_logits import PixelLogits
from mmseg_cil.models.classifier import find_classifier_init
from mmseg_cil.models.generators.generated_replay import extend
from mmseg_cil.models.head_losses import (
    check_head,
    has_own_losses,
    head_losses,
    pixels_of,
    stack_labels,
    summed_losses,
)
from mmseg_cil.models.network_change import CHANGE_NAME, NetworkChange
from mmseg_cil.models.network_output import NetworkOutput, tap_classifier, tap_stages
from mmseg_cil.models.parsed_losses import ParsedLosses
from mmseg_cil.models.plain import PLAIN_PREFIXES
from mmseg_cil.models.segmentors.mixed_sizes import MixedSizes
from mmseg_cil.models.teacher import Teacher, load_matching, load_plain_state
from mmseg_cil.models.teachers import STEP_PREFIX, TeacherRecords, Teachers
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.devices import to_device
from mmseg_cil.utils.step_context import StepContext


@MODELS.register_module()
class IncrementalEncoderDecoder(MixedSizes, ParsedLosses, EncoderDecoder):
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
        teachers: The same of further snapshots by name (see
            :class:`~mmseg_cil.models.teachers.Teachers`).
        teacher_draw: Of those of earlier steps, run so many for a batch. All by default.
        distillers: Configs of distillers; built only where there is a teacher.
            Teachers that no distiller, and no loss with ``read_teacher``, reads
            are not loaded.
        regularisers: Configs of regularisers (see :mod:`mmseg_cil.regularisers`); built
            only where there is a previous step.
        self_supervision: Config of a module that changes the batches of training and
            the classifiers' outputs there
            (:class:`~mmseg_cil.models.rotation.RotationSelfSupervision`), or None.
        classifier_init: How the rows of new classes begin (see
            :data:`~mmseg_cil.models.classifier.CLASSIFIER_INITS`). Without new
            classes nothing begins, and it is not used.
        network_change: Config of a :class:`~mmseg_cil.models.network_change.NetworkChange`:
            what the method changes in the network while the step trains.
        replay: Config of a :class:`~mmseg_cil.models.generators.GeneratedReplay`, which
            appends images to the batches; used where there is a previous step.
        **network: Arguments of ``EncoderDecoder``.

    Raises:
        InputError: A head has no ``conv_seg``, its number of classes is not
            that of the step, ``previous`` or ``teacher`` are not of a step
            before this one, or ``classifier_init`` does not fit.
    """

    def __init__(self,
                 *,
                 step: dict,
                 previous: dict | None = None,
                 teacher: dict | None = None,
                 teachers: Mapping[str, dict] | None = None,
                 teacher_draw: int | None = None,
                 distillers: Sequence[dict] = (),
                 regularisers: Sequence[dict] = (),
                 self_supervision: dict | None = None,
                 classifier_init: str = 'random',
                 network_change: dict | None = None,
                 replay: dict | None = None,
                 **network: Any) -> None:
        network_config = copy.deepcopy(network)
        super().__init__(**network)
        self.step = StepContext.from_config(step)
        self.classifier_init = classifier_init
        self._network_config = network_config
        self._previous = previous
        # Losses of heads that want the teacher's record of a batch before they are computed.
        self._readers: list[Any] = [one for one in self.modules() if hasattr(one, 'read_teacher')]
        self._hidden_readers: list[Any] = [
            one for one in self.modules() if hasattr(one, 'read_hidden')]
        self.distillers = nn.ModuleList(
            MODELS.build(one) for one in (distillers if teacher is not None else ()))
        self.regularisers = nn.ModuleList(
            MODELS.build(one) for one in (regularisers if previous is not None else ()))
        # A plain attribute of a class that is no Module: invisible to state
        # dict, optimizer and DDP.
        self._teachers = Teachers(teacher, teachers or {}, self.distillers, bool(self._readers),
                                  teacher_draw)
        self._reads_stages, self._reads_auxiliary = (
            any(getattr(one, name, False) for one in self.distillers)
            for name in ('reads_pre_activations', 'reads_auxiliary'))
        for name, head in self.heads.items():
            check_head(name, head, self.step)
        self._check_snapshots()
        for module in self.modules():
            if module is not self and hasattr(module, 'set_step'):
                module.set_step(self.step)
        self._change: NetworkChange = (
            MODELS.build(network_change) if network_change else NetworkChange())
        self._change.install(self, learnt=teacher is not None)
        # Beside the snapshot of the last step that trained.
        self._change_file = Path(teacher['checkpoint']).parent / CHANGE_NAME if teacher else None
        for part in (*self.distillers, *self.regularisers):
            if hasattr(part, 'attach'):
                part.attach(self)
        self.self_supervision: Any = None
        if self_supervision is not None:
            self.self_supervision = MODELS.build(self_supervision)
            self.self_supervision.attach(self.heads)
        self._replay: Any = MODELS.build(replay) if replay and previous else None

    @property
    def teacher(self) -> Teacher | None:
        """The last snapshot; None where nothing reads it, and before ``init_weights``."""
        return self._teachers.last

    @property
    def teachers(self) -> Teachers:
        """All snapshots that something reads."""
        return self._teachers

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

    def _check_snapshots(self) -> None:
        step = self.step
        grows = self._previous is not None and step.index > 0 and step.num_new > 0
        find_classifier_init(self.classifier_init, step.has_background or not grows)
        known = step.num_old if step.index > 0 else step.num_seen
        if self._previous is not None and self._previous['num_classes'] != known:
            raise InputError(f'step {step.index} starts from {known} classes, but its previous '
                             f'checkpoint has {self._previous["num_classes"]}: '
                             'it must be that of the step before')
        for name, config in self._teachers.configs.items():
            of_step = name is None or name.startswith(STEP_PREFIX)
            if of_step and config['num_classes'] > known:
                called = 'its teacher' if name is None else f'its teacher {name}'
                raise InputError(f'step {step.index} starts from {known} classes, but {called} '
                                 f'knows {config["num_classes"]}: it must be of a step before')

    def init_weights(self) -> None:
        """Initialises as MMSegmentation does at step 0, else from the last step's checkpoint.

        Then loads the teachers, if there are any.

        Raises:
            InputError: A checkpoint is missing, damaged or of another network.
        """
        with self._change.plain_form(self):
            if self._previous is None:
                self._begin()
            else:
                for head in self.heads.values():
                    head.init_weights()  # type: ignore[operator]
                self._grow_from(self._previous)
                self._is_init = True
        self._change.begin(self, self._change_file)
        if self.self_supervision is not None:
            self.self_supervision.begin(self.heads)
        self._teachers.load(dict(self._network_config, type='EncoderDecoder'))
        if self._replay is not None:
            self._replay.load()

    def set_iteration_seed(self, seed: int) -> None:
        """Told before every iteration: a seed, the same on all ranks, for teachers and replay."""
        self._teachers.set_seed(seed)
        if self._replay is not None:
            self._replay.set_iteration_seed(seed)

    def _begin(self) -> None:
        try:
            super().init_weights()
        except UNREADABLE as error:
            raise InputError(
                'the pre-trained weights that the model config names cannot be loaded '
                f'({type(error).__name__}: {error}): point --cfg-options '
                'model.backbone.init_cfg.checkpoint=PATH at a file that every node has') from error

    def make_plain(self) -> dict[str, Tensor]:
        """Takes back, for good, what the method changed in the network.

        Afterwards the network is a plain one, in evaluation the same as before.

        Returns:
            What the change hands on to the next step; empty where nothing was changed.
        """
        kept = self._change.finish(self)
        self._change = NetworkChange()
        return kept

    def plain_parameter_names(self) -> set[str]:
        """Names of the parameters that the network has without what the method changes in it."""
        with self._change.plain_form(self):
            return {name for name, _ in self.named_parameters()}

    def previous_state(self) -> dict[str, Tensor]:
        """The weights of the last step, with its number of classes, on the CPU.

        Raises:
            InputError: The checkpoint is missing, damaged or of another network.
        """
        if self._previous is None:
            raise InputError(f'step {self.step.index} has no previous checkpoint')
        return load_plain_state(self._previous['checkpoint'], self._previous['num_classes'])

    def _grow_from(self, previous: dict) -> None:
        state = load_plain_state(previous['checkpoint'], previous['num_classes'])
        if self.step.num_seen > previous['num_classes']:
            for name, head in self.heads.items():
                self._grow_head(state, f'{name}.conv_seg', head.conv_seg)  # type: ignore[arg-type]
        parts = (prefix.rstrip('.') for prefix in PLAIN_PREFIXES)
        plain = nn.ModuleDict({part: getattr(self, part) for part in parts
                               if isinstance(getattr(self, part, None), nn.Module)})
        load_matching(plain, state, previous['checkpoint'])

    def _grow_head(self, state: dict[str, Tensor], prefix: str, fresh: nn.Conv2d) -> None:
        """Adds the rows of the new classes to one classifier in a state dict."""
        num_old = self.step.num_old
        weight, bias = state.get(f'{prefix}.weight'), state.get(f'{prefix}.bias')
        if weight is None or bias is None \
                or weight.shape != (num_old, *fresh.weight.shape[1:]) or len(bias) != num_old:
            return  # load_matching says what does not fit
        assert fresh.bias is not None
        grow = find_classifier_init(self.classifier_init, self.step.has_background)
        with torch.no_grad():
            state[f'{prefix}.weight'], state[f'{prefix}.bias'] = grow(
                weight, bias, fresh.weight[num_old:].cpu(), fresh.bias[num_old:].cpu())

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of the heads, the distillers and the regularisers.

        Args:
            inputs: ``(N, 3, H, W)``, normalised.
            data_samples: With ``gt_sem_seg`` in model ids.

        Returns:
            Losses (scalars) under the prefixes ``decode.``, ``aux.`` (``aux_0.``,
            ``aux_1.``, ... of several auxiliary heads), ``distill.`` and
            ``regularise.``. Losses of several distillers, or regularisers, under
            one name are summed.

        Raises:
            RuntimeError: There is a teacher, and ``init_weights`` has not loaded it.
        """
        self._teachers.check_loaded()
        if self.self_supervision is not None:
            inputs, data_samples = self.self_supervision.turn(inputs, data_samples)
        inputs, data_samples, replayed = extend(self._replay, inputs, data_samples)
        teachers = self._run_teachers(inputs)
        self._tell_hidden(data_samples, inputs.device)
        pixels_at = functools.partial(pixels_of, labels=stack_labels(data_samples),
                                      cuts=self._cuts(), replayed=replayed)
        with tap_stages(self.backbone, self._reads_stages) as stages:
            features = self.extract_feat(inputs)
        with tap_classifier(self.decode_head) as tap:
            own, pixels = self._run_head(self.decode_head, features, data_samples, pixels_at)
        losses = add_prefix(own, 'decode')
        auxiliary: list[PixelLogits | None] = []
        for name, head in self.heads.items():
            if head is not self.decode_head:
                own, of_head = self._run_auxiliary(head, features, data_samples, pixels_at)
                losses.update(add_prefix(own, name.replace('auxiliary_head', 'aux').replace(
                    '.', '_')))
                auxiliary.append(of_head)
        if len(self.distillers) > 0:
            student = tap.output(features, self.align_corners, stages)
            if pixels is None or self.self_supervision is not None:
                # Self-supervision adds outputs that no teacher has.
                student = replace(student, logits=student.logits[:, :self.step.num_seen])
                pixels = pixels_at(self.decode_head, student.logits)
            losses.update(add_prefix(
                self._distill(student, teachers, pixels, auxiliary, replayed), 'distill'))
        losses.update(add_prefix(
            summed_losses(one(self) for one in self.regularisers), 'regularise'))
        for reader in self._readers:
            reader.read_teacher(None)
        if self.self_supervision is not None:
            self.self_supervision.end()
        return losses

    def _tell_hidden(self, data_samples: SampleList, device: torch.device) -> None:
        """Tells the losses that ask what the label 0 of each image may stand for."""
        if self._hidden_readers:
            # Outputs of self-supervision come after those of the classes.
            turns = 1 if self.self_supervision is None else self.self_supervision.turns
            hidden = hidden_mask([one.metainfo.get('cil_hidden') for one in data_samples],
                                 self.step.num_hidden, self.step.num_seen * turns)
            hidden = None if hidden is None else to_device(hidden, device)
            for reader in self._hidden_readers:
                reader.read_hidden(hidden)

    def _run_head(self, head: BaseDecodeHead, features: Sequence[Tensor], data_samples: SampleList,
                  pixels_at: Callable[..., PixelLogits]
                  ) -> tuple[dict[str, Tensor], PixelLogits | None]:
        """Losses of a head, and the pixels they share: None of a head with losses of its own."""
        if has_own_losses(head):
            losses: dict[str, Tensor] = head.loss(features, data_samples, self.train_cfg)
            return losses, None
        pixels = pixels_at(head, head.forward(features))
        return head_losses(head, pixels), pixels

    def _run_auxiliary(self, head: BaseDecodeHead, features: Sequence[Tensor],
                       data_samples: SampleList, pixels_at: Callable[..., PixelLogits]
                       ) -> tuple[dict[str, Tensor], PixelLogits | None]:
        """Losses of an auxiliary head, and its pixels where a distiller reads them."""
        if not self._reads_auxiliary:
            # Groups of classes that nobody asks for cost time.
            return self._run_head(head, features, data_samples,
                                  functools.partial(pixels_at, cuts=()))
        with tap_classifier(head) as tap:
            own, pixels = self._run_head(head, features, data_samples, pixels_at)
        if pixels is None or self.self_supervision is not None:
            assert tap.logits is not None
            pixels = pixels_at(head, tap.logits[:, :self.step.num_seen])
        return own, pixels

    def _cuts(self) -> Sequence[int]:
        """Between the groups of classes that distillation asks for: background, each teacher's."""
        known = [config['num_classes'] for config in self._teachers.configs.values()]
        wanted = [one.cuts() for one in self.distillers if hasattr(one, 'cuts')]  # type: ignore
        return (1, *known, *(cut for each in wanted for cut in each)) if known else ()

    def _run_teachers(self, inputs: Tensor) -> TeacherRecords:
        """Runs the teachers and hands the last one's record to the losses that read it."""
        records = self._teachers.run(inputs, self._reads_stages, self._reads_auxiliary)
        if records.last is not None:
            for reader in self._readers:
                reader.read_teacher(records.last)
        return records

    def _distill(self, student: NetworkOutput, teachers: TeacherRecords, pixels: PixelLogits,
                 auxiliary: Sequence[PixelLogits | None], replayed: int) -> dict[str, Tensor]:
        """Losses of the distillers, each given the records that it says it reads."""

        def of(distiller: Any) -> dict[str, Tensor]:
            more: dict[str, Any] = {}
            names = getattr(distiller, 'reads_teachers', False)
            if names:
                more['teachers'] = teachers.named if names is True else {
                    name: teachers.named[name] for name in names if name in teachers.named}
            if getattr(distiller, 'reads_auxiliary', False):
                more['auxiliary'] = auxiliary
            if getattr(distiller, 'reads_replay', False):
                more['replayed'] = replayed
            losses: dict[str, Tensor] = distiller(student, teachers.last, pixels, **more)
            return losses

        return summed_losses(of(one) for one in self.distillers)

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
