"""An encoder-decoder that grows with the steps and learns from earlier snapshots."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from mmseg.models.segmentors import CascadeEncoderDecoder, EncoderDecoder
from mmseg.utils import OptSampleList, SampleList
from torch import Tensor, nn

from mmseg_cil.contracts import (
    ClassifierInit,
    Distiller,
    Freezing,
    HeadLoss,
    IterationSeeded,
    MethodPart,
    Needs,
    NetworkChange,
    PredictionRule,
    Regulariser,
    Replay,
    SelfSupervision,
    TeacherForm,
)
from mmseg_cil.contracts.check import check_told, overrides, require_contract
from mmseg_cil.contracts.method import MethodConfig
from mmseg_cil.errors import UNREADABLE, InputError
from mmseg_cil.models.classifier import find_classifier_init
from mmseg_cil.models.freezing import freeze_parameters, hold_modes
from mmseg_cil.models.growth import OldRows, grow_state
from mmseg_cil.models.head_losses import check_head, teacher_readers
from mmseg_cil.models.heads import auxiliary_heads, decode_heads
from mmseg_cil.models.network_change import CHANGE_NAME
from mmseg_cil.models.parsed_losses import ParsedLosses
from mmseg_cil.models.plain import PLAIN_PREFIXES
from mmseg_cil.models.segmentors.channels_last import ChannelsLast
from mmseg_cil.models.segmentors.mixed_sizes import MixedSizes
from mmseg_cil.models.segmentors.step_losses import StepLosses
from mmseg_cil.models.shared_trunk import SharedTrunk
from mmseg_cil.models.teacher import Teacher, load_matching, load_plain_state
from mmseg_cil.models.teachers import STEP_PREFIX, Teachers
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.step_context import StepContext

Part = TypeVar('Part')


@MODELS.register_module()
class IncrementalEncoderDecoder(
    StepLosses, IterationSeeded, MixedSizes, ParsedLosses, ChannelsLast, EncoderDecoder
):
    """MMSegmentation's ``EncoderDecoder`` at one step of a walk.

    The segmentor works with every head that classifies with ``conv_seg``; auxiliary heads
    grow too, unless they have a target of their own. Student and teacher each run
    once per batch and leave one
    :class:`~mmseg_cil.models.network_output.NetworkOutput`, from which all
    distillers read. The scheduler writes the arguments below into the config
    of each step; users do not write them.

    Args:
        step: Plain form of a :class:`~mmseg_cil.utils.step_context.StepContext`.
        previous: Checkpoint of the last step, from which training starts, as
            ``dict(checkpoint=path, num_classes=n)``. None at step 0.
        teacher: Checkpoint of the snapshot to learn from, in the form of ``previous``. None
            if there is no teacher.
        teachers: Checkpoints of further snapshots by name (see
            :class:`~mmseg_cil.models.teachers.Teachers`).
        replay: Config of a :class:`~mmseg_cil.methods.dfgr.generated_replay.GeneratedReplay`, which
            appends images to the batches; used if there is a previous step.
        channels_last: Whether kernels and maps have the channels last in memory.
        **arguments: Parts of the method that the network has, by their keys in
            :class:`~mmseg_cil.contracts.method.MethodConfig`, and the arguments of
            MMSegmentation's segmentor. Teachers that no distiller and no loss needs are
            not loaded.

    Raises:
        InputError: A head has no ``conv_seg``, its number of classes is not
            that of the step, ``previous`` or ``teacher`` do not belong to a step
            before this one, or ``classifier_init`` does not fit.
    """

    #: MMSegmentation's segmentor that this one is a form of.
    plain_type = 'EncoderDecoder'
    #: The frozen parts; none at the first step that trains, and until the network is built.
    _freezing = Freezing()

    def __init__(
        self,
        *,
        step: dict,
        previous: dict | None = None,
        teacher: dict | None = None,
        teachers: Mapping[str, dict] | None = None,
        replay: dict | None = None,
        channels_last: bool = False,
        **arguments: Any,
    ) -> None:
        method, network = MethodConfig.split(arguments)
        network_config = copy.deepcopy(network)
        super().__init__(**network)
        self.step = StepContext.from_config(step)
        self.classifier_init = method.classifier_init
        self._network_config = network_config
        self._previous = previous
        self._find_readers()
        needs = self._build_parts(
            method.distillers if teacher is not None else (),
            method.regularisers if previous is not None else (),
        )
        # Teachers is no Module, so this attribute is invisible to state dict,
        # optimizer and DDP.
        form = TeacherForm.from_config(method.teacher_form).as_student(channels_last)
        self._trunk = SharedTrunk(form.shared_trunk)
        self._teachers = Teachers(
            teacher, teachers or {}, needs, bool(self._teacher_readers), method.teacher_draw, form
        )
        for name, head in self.heads.items():
            check_head(name, head, self.step)
        self._check_snapshots()
        for module in self.modules():
            check_told(module)
            if isinstance(module, MethodPart):
                module.set_step(self.step)
        self._install_change(method, teacher)
        for part in (*self.distillers, *self.regularisers):
            part.attach(self)
        self.self_supervision: SelfSupervision | None = None
        if method.self_supervision is not None:
            self.self_supervision = _build(
                method.self_supervision, SelfSupervision, 'method.self_supervision'
            )
            self.self_supervision.attach(self.heads)
        self._replay = _build(replay, Replay, 'model.replay') if replay and previous else None
        self.keep_order(channels_last)

    def _find_readers(self) -> None:
        """Find the losses of heads that receive something of a batch before they are computed."""
        self._teacher_readers = teacher_readers(self)
        losses = [module for module in self.modules() if isinstance(module, HeadLoss)]
        self._hidden_readers, self._sample_readers = (
            [loss for loss in losses if overrides(loss, setter)]
            for setter in (HeadLoss.receive_hidden, HeadLoss.receive_samples)
        )

    def _build_parts(
        self, distillers: Sequence[Mapping[str, Any]], regularisers: Sequence[Mapping[str, Any]]
    ) -> list[Needs]:
        """Build distillers and regularisers, and return what the distillers need."""
        built = [_build(config, Distiller, 'method.distillers') for config in distillers]
        self.distillers = nn.ModuleList(built)
        self.regularisers = nn.ModuleList(
            _build(config, Regulariser, 'method.regularisers') for config in regularisers
        )
        needs = [distiller.needs for distiller in built]
        self._needs_stages = any(need.pre_activations for need in needs)
        self._needs_auxiliary = any(need.auxiliary for need in needs)
        return needs

    def _install_change(self, method: MethodConfig, teacher: Mapping[str, Any] | None) -> None:
        """Change and freeze the network as the method says, and take its rule for predictions."""
        self._change = (
            _build(method.network_change, NetworkChange, 'method.network_change')
            if method.network_change
            else NetworkChange()
        )
        self._change.install(self, learnt=teacher is not None)
        if self.step.trained:
            self._freezing = Freezing.from_config(method.freezing)
            freeze_parameters(self, self._freezing)
        # This attribute stays when the network is plain again.
        self._change_of_method = self._change
        self._prediction = (
            _build(method.prediction, PredictionRule, 'method.prediction')
            if method.prediction
            else PredictionRule()
        )
        # The file of the change is beside the snapshot of the last step that trained.
        self._change_file = Path(teacher['checkpoint']).parent / CHANGE_NAME if teacher else None

    def train(self, mode: bool = True) -> IncrementalEncoderDecoder:
        """Set the mode as for any module, but keep in evaluation what ``method.freezing`` names."""
        super().train(mode)
        if mode:
            hold_modes(self, self._freezing)
        return self

    @property
    def rates(self) -> Mapping[str, float]:
        """Factors of the learning rate at this step, by patterns of parameters."""
        return self._freezing.rates

    @property
    def teacher(self) -> Teacher | None:
        """The last snapshot; None if no part reads it, and before ``init_weights``."""
        return self._teachers.last

    @property
    def teachers(self) -> Teachers:
        """All snapshots that a distiller or a loss reads."""
        return self._teachers

    @property
    def heads(self) -> dict[str, nn.Module]:
        """Decode heads and auxiliary heads that classify, under their prefix in the state dict."""
        return {**decode_heads(self), **auxiliary_heads(self)}

    def _check_snapshots(self) -> None:
        step = self.step
        grows = self._previous is not None and step.index > 0 and step.num_new > 0
        find_classifier_init(self.classifier_init, step.has_background or not grows)
        known = step.num_old if step.index > 0 else step.num_seen
        if self._previous is not None and self._previous['num_classes'] != known:
            raise InputError(
                f'step {step.index} starts from {known} classes, but its previous '
                f'checkpoint has {self._previous["num_classes"]}: '
                'it must be that of the step before'
            )
        for name, config in self._teachers.configs.items():
            of_step = name is None or name.startswith(STEP_PREFIX)
            if of_step and config['num_classes'] > known:
                called = 'its teacher' if name is None else f'its teacher {name}'
                raise InputError(
                    f'step {step.index} starts from {known} classes, but {called} '
                    f'knows {config["num_classes"]}: it must be of a step before'
                )

    def init_weights(self) -> None:
        """Initialise as MMSegmentation does at step 0, otherwise from the last step's checkpoint.

        Afterwards the teachers and the replay, if there are any, load their weights.

        Raises:
            InputError: A checkpoint is missing, damaged or of another network.
        """
        with self.while_drawing():
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
        self._teachers.load(dict(self._network_config, type=self.plain_type))
        if self._replay is not None:
            self._replay.load()

    def set_iteration_seed(self, seed: int) -> None:
        """Take the next iteration's seed, the same on all ranks, for teachers and replay."""
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
                'model.backbone.init_cfg.checkpoint=PATH at a file that every node has'
            ) from error

    def make_plain(self) -> dict[str, Tensor]:
        """Remove the method's change from the network for good.

        Afterwards the network is plain, with the same outputs in evaluation as before.

        Returns:
            Tensors that the change hands on to the next step; empty without a change.
        """
        kept = self._change.finish(self)
        self._change = NetworkChange()
        return kept

    def in_finished_form(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return plain weights in the form that the method's change leaves after a step."""
        return self._change_of_method.in_finished_form(state)

    def restore_outputs(self, kept: Path) -> None:
        """Give the plain network of a finished step the outputs that its prediction needs.

        Args:
            kept: File of the tensors that the change handed on after that step; the file may
                be missing.
        """
        self._change_of_method.restore(self, kept)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Return the scores ``(N, C, H, W)`` of the classes, by the method's rule."""
        logits = super().encode_decode(inputs, batch_img_metas)
        return self._prediction(logits, self.step.num_seen)

    def plain_parameter_names(self) -> set[str]:
        """Return the names of the parameters of the network without the method's change."""
        with self._change.plain_form(self):
            return {name for name, _ in self.named_parameters()}

    def previous_state(self) -> dict[str, Tensor]:
        """Return the weights of the last step, with its number of classes, on the CPU.

        Raises:
            InputError: The checkpoint is missing, damaged or of another network.
        """
        if self._previous is None:
            raise InputError(f'step {self.step.index} has no previous checkpoint')
        return load_plain_state(self._previous['checkpoint'], self._previous['num_classes'])

    def previous_network(self) -> Teacher:
        """Load the network of the last step, frozen, separate from this network and its teachers.

        Raises:
            InputError: As :meth:`previous_state`.
        """
        if self._previous is None:
            raise InputError(f'step {self.step.index} has no previous checkpoint')
        return Teacher(dict(self._network_config, type=self.plain_type), **self._previous)

    def begun_state(self) -> dict[str, Tensor]:
        """Return the weights that the step began with, without those of new classes, on the CPU.

        The weights are those of the last step, with the rows of old classes as
        ``classifier_init`` has moved them ('balanced' moves the background's row, for example).

        Raises:
            InputError: As :meth:`previous_state`, or old rows depend on chance or on new rows.
        """
        state = self.previous_state()
        shapes = {key: value.shape for key, value in state.items()}
        self._grow(state, OldRows)
        return {
            key: value[tuple(slice(0, size) for size in shapes[key])]
            for key, value in state.items()
        }

    def _grow(
        self, state: dict[str, Tensor], form: Callable[[ClassifierInit], ClassifierInit]
    ) -> None:
        """Add rows of new classes to the weights of the last step, in place."""
        assert self._previous is not None
        known: int = self._previous['num_classes']
        if self.step.num_seen > known:
            grow = find_classifier_init(self.classifier_init, self.step.has_background)
            grow_state(state, self.heads, known, form(grow))

    def _grow_from(self, previous: dict) -> None:
        state = self.previous_state()
        self._grow(state, lambda grow: grow)
        parts = (prefix.rstrip('.') for prefix in PLAIN_PREFIXES)
        plain = nn.ModuleDict(
            {
                part: getattr(self, part)
                for part in parts
                if isinstance(getattr(self, part, None), nn.Module)
            }
        )
        load_matching(plain, state, previous['checkpoint'])

    def postprocess_result(
        self, seg_logits: Tensor, data_samples: OptSampleList = None
    ) -> SampleList:
        """Post-process as MMSegmentation does, but predict background for a single output.

        MMSegmentation takes one output for binary segmentation and thresholds
        its sigmoid, which is wrong at a step that has seen only the background.
        """
        if seg_logits.shape[1] > 1:
            return super().postprocess_result(seg_logits, data_samples)
        # The second output is smaller everywhere, so the first is predicted.
        samples = super().postprocess_result(
            torch.cat([seg_logits, seg_logits - 1], dim=1), data_samples
        )
        for sample in samples:
            sample.seg_logits.data = sample.seg_logits.data[:1].sigmoid()
        return samples


def _build(config: Mapping[str, Any], contract: type[Part], where: str) -> Part:
    """Build a part of a method, which must keep its contract."""
    part: Part = MODELS.build(config)
    require_contract(part, contract, where)
    return part


@MODELS.register_module()
class IncrementalCascadeEncoderDecoder(IncrementalEncoderDecoder, CascadeEncoderDecoder):
    """MMSegmentation's ``CascadeEncoderDecoder`` (OCRNet, PointRend) at one step of a walk.

    All heads of the cascade grow and learn by the method's loss. Distillers read the
    logits of the last head that makes maps of logits: ``OCRHead``, but not ``PointHead``,
    which refines points of the map of the head before it.
    """

    plain_type = 'CascadeEncoderDecoder'
