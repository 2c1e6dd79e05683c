"""Self-supervision by rotation: every class is learnt as four classes, one per turn."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import IterativeDecodeHead, PointHead
from mmseg.utils import SampleList
from torch import Tensor, nn
from torch.nn import functional

from mmseg_cil.contracts import HeadLoss, SelfSupervision
from mmseg_cil.errors import InputError
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.devices import to_device

ROTATIONS = ('all', 'random')


@MODELS.register_module()
class RotationSelfSupervision(SelfSupervision):
    r"""Turns images and masks together and quadruples the classifiers in training.

    With label augmentation, a pixel of class y in an image turned by k quarters is
    class 4 y + k of 4 C classes. Evaluation, the gradients that VDFD keeps and the
    checkpoint of a step have the C outputs of turn 0 alone.

    The 4 C logits of an image begin with the C logits of the image's own turn. The
    cross-entropy with unchanged labels is then the same, and losses and distillers
    that find old classes by their place among the first C outputs work unchanged.

    The rows of the other turns are parameters of this module, and begin each
    step as copies of the classes' rows, because a step leaves only the C rows behind
    (our choice: copies share a class's probability among its turns).

    Source: XiaorongLi-95/VDFD ``class_incremental/agent_ssl`` (classification: all
    four turns of each image; rows ``[::4]`` for inference).

    Args:
        rotations: 'all' (default) adds the three turned copies of every image, which gives
            four times the batch; 'random' turns every image at random, which costs only the
            larger classifier (our choice).

    Raises:
        InputError: ``rotations`` is unknown.
    """

    #: Outputs in training for each of the classes.
    turns = 4

    def __init__(self, rotations: str = 'all') -> None:
        super().__init__()
        if rotations not in ROTATIONS:
            raise InputError(
                f'RotationSelfSupervision: rotations must be one of {ROTATIONS}, got {rotations!r}'
            )
        self.rotations = rotations
        self.rows = nn.ModuleDict()
        self._turns: Tensor | None = None

    def attach(self, heads: Mapping[str, Any]) -> None:
        """Create the rows of the other turns for every head, and add their outputs to the head's.

        The losses of the heads get the number of outputs that a class has in training.

        Args:
            heads: Heads by name, each with a convolution ``conv_seg``.
        """
        for name, head in heads.items():
            if isinstance(head, (IterativeDecodeHead, PointHead)):
                raise InputError(
                    f'RotationSelfSupervision gives classes four outputs in training, and {name} '
                    f'({type(head).__name__}) reads its logits as one a class: use another head, '
                    'or leave method.self_supervision out'
                )
            for module in head.modules():
                if isinstance(module, HeadLoss):
                    module.set_turns(self.turns)
            own = head.conv_seg
            key = name.replace('.', '_')
            self.rows[key] = nn.ParameterDict(
                {
                    'weight': torch.zeros(3 * own.out_channels, *own.weight.shape[1:]),
                    'bias': torch.zeros(3 * own.out_channels),
                }
            )
            own.register_forward_hook(functools.partial(self._extend, key))

    def begin(self, heads: Mapping[str, Any]) -> None:
        """Copy the classifiers' rows, once these have their initial values."""
        with torch.no_grad():
            for name, head in heads.items():
                rows: Any = self.rows[name.replace('.', '_')]
                rows['weight'].copy_(head.conv_seg.weight.repeat(3, 1, 1, 1))
                rows['bias'].copy_(head.conv_seg.bias.repeat(3))

    def turn(self, inputs: Tensor, samples: SampleList) -> tuple[Tensor, SampleList]:
        """Return the batch to train on; until :meth:`end` classifiers have 4 C outputs.

        Args:
            inputs: ``(N, 3, S, S)``.
            samples: N, with ``gt_sem_seg`` of the same size.

        Returns:
            ``4 N`` images and samples, turn by turn, or N with 'random'.

        Raises:
            InputError: Images are not square.
        """
        count, side = len(inputs), inputs.shape[-1]
        if inputs.shape[-2] != side:
            raise InputError(
                'RotationSelfSupervision turns images by quarters: crop and '
                f'data_preprocessor.size must be square, not {inputs.shape[-2:]}'
            )
        if self.rotations == 'all':
            turns = torch.arange(4).repeat_interleave(count)
            inputs, samples = inputs.repeat(4, 1, 1, 1), list(samples) * 4
        else:
            turns = torch.randint(4, (count,))
        self._turns = to_device(turns, inputs.device)
        quarters = turns.tolist()
        return (
            torch.stack(
                [image.rot90(k, (-2, -1)) for image, k in zip(inputs, quarters, strict=True)]
            ),
            [_turned(sample, k) for sample, k in zip(samples, quarters, strict=True)],
        )

    def end(self) -> None:
        """Give the classifiers C outputs again."""
        self._turns = None

    def _extend(
        self, key: str, classifier: nn.Conv2d, inputs: tuple[Tensor, ...], logits: Tensor
    ) -> Tensor:
        if self._turns is None or not classifier.training:
            return logits
        rows: Any = self.rows[key]
        others = classifier._conv_forward(inputs[0], rows['weight'], rows['bias'])
        every = torch.cat([logits, others], dim=1).unflatten(1, (4, -1))
        # Generated images come after the turned images and have turn 0.
        turns = functional.pad(self._turns, (0, len(logits) - len(self._turns)))
        # (N, 4): the image's own turn first, then the next ones.
        order = (turns.unsqueeze(1) + torch.arange(4, device=logits.device)) % 4
        images = torch.arange(len(logits), device=logits.device).unsqueeze(1)
        return every[images, order].flatten(1, 2)


def _turned(sample: Any, quarters: int) -> Any:
    turned = copy.copy(sample)
    # PIDNet learns the edges between classes, too.
    for name in ('gt_sem_seg', 'gt_edge_map'):
        if name in sample:
            target = sample.get(name).data
            setattr(turned, name, PixelData(data=target.rot90(quarters, (-2, -1))))
    return turned
