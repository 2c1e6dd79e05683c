"""Training a generator from a frozen segmentor alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModel
from mmseg.models.utils import resize
from torch import Tensor

from mmseg_cil.errors import InputError
from mmseg_cil.methods.dfgr.generator_losses import (
    class_balance,
    followed,
    layout_cross_entropy,
    mean_entropy,
    mean_probability,
    statistics_loss,
    total_variation,
)
from mmseg_cil.methods.dfgr.norm_tap import batch_norms, tap_statistics
from mmseg_cil.models.heads import main_head
from mmseg_cil.models.network_output import main_logits
from mmseg_cil.models.plain import plain_model_config
from mmseg_cil.models.teacher import Teacher
from mmseg_cil.registry import MODELS

#: Weights of the parts; see ``docs/cumulative.md`` for how they were chosen.
WEIGHTS = dict(layout=1.0, statistics=1.0, balance=1.0, confidence=0.1, smoothness=0.1)


@MODELS.register_module()
class GeneratorTraining(BaseModel):
    r"""A generator that learns from a frozen segmentor to draw images of its classes.

    The loss is

    .. math:: w_l\, CE(z(G(n, y)), y) + w_s \frac1L \sum_l r_l + w_b (1 - H(\bar p)/\log K)
              + w_c\, \overline{H(p)} / \log K + w_v\, TV(G(n, y))

    where y are random layouts, n is noise, z are the frozen segmentor's logits at the
    layout's pixels, p is their softmax, and r_l is the mean over channels of
    :func:`~mmseg_cil.methods.dfgr.generator_losses.normal_divergence` in the l-th of the
    L batch norms that run. Only the generator is in the state dict.

    Args:
        network: Model config of the segmentor.
        snapshot: ``dict(checkpoint=path, num_classes=K)``.
        generator: Config of a :class:`~mmseg_cil.methods.dfgr.layout_generator.LayoutGenerator`.
        weights: Weights of the parts of the loss, by name; defaults are in :data:`WEIGHTS`.

    Raises:
        InputError: The segmentor has no batch norm, or a weight has an unknown name.
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        snapshot: Mapping[str, Any],
        generator: Mapping[str, Any],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        unknown = sorted(set(weights or {}) - set(WEIGHTS))
        if unknown:
            raise InputError(f'a generator has no loss weights {unknown}: use {sorted(WEIGHTS)}')
        self.weights = {**WEIGHTS, **(weights or {})}
        self.generator = MODELS.build(dict(generator))
        self._network, self._snapshot = dict(network), dict(snapshot)
        check_batch_norms(self._network, snapshot['num_classes'])
        # Teacher is no nn.Module, so it stays outside the state dict, the optimizer and DDP.
        self._teacher: Teacher | None = None

    def init_weights(self) -> None:
        """Load the segmentor; the generator's weights were drawn when the generator was built.

        Raises:
            InputError: As :class:`~mmseg_cil.models.teacher.Teacher`.
        """
        self._teacher = Teacher(self._network, **self._snapshot)

    @property
    def teacher(self) -> Teacher:
        """The frozen segmentor."""
        if self._teacher is None:
            raise RuntimeError('the segmentor is not loaded: call init_weights() before training')
        return self._teacher

    def predict(self, images: Tensor, size: Sequence[int]) -> Tensor:
        """Return the segmentor's logits at a layout's pixels, with gradients to the images.

        Args:
            images: ``(N, 3, H, W)``, normalised.
            size: ``(H, W)`` of the layout.

        Returns:
            ``(N, K, H, W)``, float32 at least.
        """
        network = self.teacher.network.to(images.device)
        logits = main_logits(network, network.extract_feat(images))
        return resize(
            logits.float(),
            size=tuple(size),
            mode='bilinear',
            align_corners=main_head(network)[1].align_corners,
        )

    def forward(self, noise: Tensor, layout: Tensor, mode: str = 'loss') -> dict[str, Tensor]:
        """Return the losses of a batch.

        Args:
            noise: ``(N, noise_size)``.
            layout: ``(N, H, W)`` integer classes.
            mode: 'loss'; there is no other mode.

        Returns:
            The weighted parts of the loss and ``follows``, the fraction of pixels at which
            the segmentor predicts the layout's class.
        """
        images = self.generator(noise, layout)
        with tap_statistics(self.teacher.network) as divergences:
            logits = self.predict(images, layout.shape[1:])
        parts = dict(
            layout=layout_cross_entropy(logits, layout),
            statistics=statistics_loss(divergences),
            balance=class_balance(mean_probability(logits)),
            confidence=mean_entropy(logits),
            smoothness=total_variation(images),
        )
        losses = {f'loss_{name}': self.weights[name] * part for name, part in parts.items()}
        return {**losses, 'follows': followed(logits, layout)}


def check_batch_norms(network: Mapping[str, Any], num_classes: int) -> None:
    """Refuse a segmentor whose norms keep no statistics of the images it learnt from.

    Raises:
        InputError: The segmentor has no batch norm with running statistics.
    """
    # The network is not built on the meta device: some transformers read values on building.
    if not batch_norms(MODELS.build(plain_model_config(network, num_classes))):
        raise InputError(
            'a generator is trained from the running statistics of batch norms, and this network '
            f'(backbone {network["backbone"].get("type")}) has none: use a network with '
            'norm_cfg=dict(type="BN"), or a method without generated replay'
        )
