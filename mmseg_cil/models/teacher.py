"""A frozen network of an earlier step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from torch import Tensor

from mmseg_cil.contracts import TeacherForm
from mmseg_cil.errors import InputError
from mmseg_cil.models.heads import classifier_key
from mmseg_cil.models.network_output import NetworkOutput, run_network
from mmseg_cil.models.plain import plain_model_config, plain_state_dict
from mmseg_cil.models.recomputation import keep_activations
from mmseg_cil.models.teacher_form import FormedNetwork
from mmseg_cil.registry import MODELS, SNAPSHOT_READERS
from mmseg_cil.utils.finite import require_finite
from mmseg_cil.utils.weights_files import NotDataError, read_weights


def load_plain_state(path: str | Path, num_classes: int) -> dict[str, Tensor]:
    """Read the weights of a step's checkpoint and check its number of classes.

    Args:
        path: A checkpoint in MMSegmentation's form, or a bare state dict.
        num_classes: Number of outputs that the decode head must have.

    Returns:
        Weights of backbone, neck and heads, on the CPU.

    Raises:
        InputError: The file is missing, cannot be read, is no MMSegmentation
            checkpoint, or classifies into another number of classes.
    """
    if not Path(path).is_file():
        raise InputError(
            f'checkpoint {path} of the previous step does not exist: '
            'run that step first, or start from a work directory that has it'
        )
    try:
        checkpoint = read_weights(path)
    except NotDataError:
        raise
    except Exception as error:
        raise InputError(
            f'checkpoint {path} cannot be read ({error}): the file is damaged or of '
            'another kind; delete the folder of that step and run it again'
        ) from error
    state = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, Mapping) else {}
    return _checked(state, f'checkpoint {path}', num_classes)


def load_packed_state(path: str | Path, step: int, num_classes: int) -> dict[str, Tensor]:
    """Rebuild the pruned snapshot of a step and check its number of classes.

    Args:
        path: File of pruned snapshots.
        step: Step of the snapshot.
        num_classes: Number of outputs that the decode head must have.

    Raises:
        InputError: The file is missing or damaged or has no snapshot of this step, or
            the snapshot classifies into another number of classes.
    """
    read = SNAPSHOT_READERS.get('packed')
    return _checked(read(path, step), f'snapshot {step} of {path}', num_classes)


def _checked(state: object, source: str, num_classes: int) -> dict[str, Tensor]:
    weights = state if isinstance(state, Mapping) else {}
    key = classifier_key(weights)
    rows = weights[key] if key else None
    if not isinstance(rows, Tensor):
        raise InputError(
            f'{source} has no decode_head.conv_seg.weight: it is not that of an '
            'MMSegmentation encoder-decoder'
        )
    if rows.shape[0] != num_classes:
        raise InputError(
            f'{source} classifies into {rows.shape[0]} classes, but this protocol has '
            f'{num_classes} after that step: it belongs to another protocol or step'
        )
    require_finite(
        weights,
        source,
        'The training of that step has diverged: walk it anew with a '
        'smaller learning rate in another --work-dir; the steps before it can be '
        'taken over with --start-from',
    )
    return plain_state_dict(weights)


class Teacher:
    """A snapshot that runs but does not learn.

    A teacher is no ``nn.Module``, so it belongs neither to the student's state dict,
    nor to its optimizer, nor to its DistributedDataParallel wrapper. A teacher moves to the
    device of its input images.

    Args:
        model: Model config of the student; the teacher is its plain form.
        checkpoint: Path of the snapshot. None if the snapshot is in ``packed``.
        num_classes: Number of classes that the snapshot knows.
        packed: File of pruned snapshots
            (:data:`~mmseg_cil.registry.SNAPSHOT_READERS`, under ``packed``).
        snapshot: Step of the snapshot in the file ``packed``.
        form: The form in which the snapshot runs. Plain by default.

    Raises:
        InputError: :func:`load_plain_state` raises it, or the weights do not fit.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        checkpoint: str | None = None,
        *,
        num_classes: int,
        packed: str | None = None,
        snapshot: int | None = None,
        form: TeacherForm | None = None,
    ) -> None:
        self.num_classes = num_classes
        self.form = form or TeacherForm()
        if checkpoint is not None:
            source, state = checkpoint, load_plain_state(checkpoint, num_classes)
        else:
            assert packed is not None and snapshot is not None
            source, state = packed, load_packed_state(packed, snapshot, num_classes)
        #: Where the weights are from, for messages.
        self.source = source if snapshot is None else f'snapshot {snapshot} of {source}'
        self.network: EncoderDecoder = MODELS.build(plain_model_config(model, num_classes))
        keep_activations(self.network)
        load_matching(self.network, state, source)
        # The network reads the sizes of windows from the attributes of ``test_cfg``.
        self.network.test_cfg = ConfigDict(self.network.test_cfg or {})
        self.network.eval().requires_grad_(False)
        self._formed = FormedNetwork(self.network, self.form)
        self._device: torch.device | None = None

    def __call__(
        self,
        inputs: Tensor,
        pre_activations: bool = False,
        auxiliary: bool = False,
        outputs: bool = True,
    ) -> NetworkOutput:
        """Run the snapshot without gradients.

        Args:
            inputs: Normalised images ``(N, 3, H, W)``.
            pre_activations: Keep the pre-activations of the backbone's stages too.
            auxiliary: Run the auxiliary heads too.
            outputs: Run the decode heads too.
        """
        self._follow(inputs)
        formed = self._formed
        with formed.computing(inputs.device):
            record = run_network(
                self.network, formed.arranged(inputs), pre_activations, auxiliary, outputs
            )
        return formed.in_format_of_run(record, inputs.device)

    def image_logits(self, inputs: Tensor, windows: bool = True) -> Tensor:
        """Return logits ``(N, C, H, W)`` at the size of the images.

        Args:
            inputs: Normalised images ``(N, 3, H, W)``.
            windows: Use sliding windows, as in evaluation, if the mode of ``test_cfg`` is 'slide':
                a network with one position for each patch of a crop (BEiT, MAE) takes images of
                no other size. False: the network sees whole images.
        """
        size = inputs.shape[-2:]
        self._follow(inputs)
        if windows and self.network.test_cfg.get('mode') == 'slide':
            metas = [dict(img_shape=tuple(size), ori_shape=tuple(size))] * len(inputs)
            with torch.no_grad():
                logits: Tensor = self.network.slide_inference(inputs, metas)
            return logits
        record = run_network(self.network, inputs)
        resized: Tensor = resize(
            record.logits, size=size, mode='bilinear', align_corners=record.align_corners
        )
        return resized

    def _follow(self, inputs: Tensor) -> None:
        if inputs.device != self._device:
            self.network.to(inputs.device)
            self._device = inputs.device


def load_matching(network: torch.nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load weights that must fit exactly; the error names those that do not fit.

    Args:
        network: Network that takes the weights.
        state: State dict to load.
        source: Origin of the weights, for the message.

    Raises:
        InputError: Keys are missing or superfluous, or shapes differ.
    """
    own = network.state_dict()
    missing = sorted(own.keys() - state.keys())
    extra = sorted(state.keys() - own.keys())
    problems = [
        f'{key}: {tuple(state[key].shape)} instead of {tuple(own[key].shape)}'
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ][:5]
    if missing:
        problems.append(f'{len(missing)} missing, such as {missing[:3]}')
    if extra:
        problems.append(f'{len(extra)} superfluous, such as {extra[:3]}')
    if problems:
        raise InputError(
            f'the weights in {source} do not fit the network of this config '
            f'({"; ".join(problems)}): use the model config they were trained with'
        )
    network.load_state_dict(dict(state))
