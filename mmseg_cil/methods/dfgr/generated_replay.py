"""Replay of old classes by generated images, which join a batch of real images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from mmseg.utils import SampleList
from torch import Tensor
from torch.nn import functional

from mmseg_cil.contracts import Replay
from mmseg_cil.errors import UNREADABLE, InputError
from mmseg_cil.methods.dfgr.layout_generator import LayoutGenerator
from mmseg_cil.methods.dfgr.layouts import draw
from mmseg_cil.registry import MODELS
from mmseg_cil.utils.devices import to_device
from mmseg_cil.utils.finite import require_finite
from mmseg_cil.utils.weights_files import read_weights

#: Label of all pixels of a generated image. Losses on labels ignore these pixels; distillation
#: uses them (:meth:`~mmseg_cil.losses.pixel_logits.PixelLogits.distilled`).
IGNORED = 255


@MODELS.register_module()
class GeneratedReplay(Replay):
    """Appends generated images to the batches of training.

    Generated images have no labels (255 everywhere): any distiller teaches their
    content by the last step's segmentor. An image depends on the run's seed, the
    step, the iteration and its place among the images of all processes. A resumed
    run therefore draws the same images as a run without interruption, and so does
    a run with another number of processes and the same number of images in total.

    The class is no ``nn.Module``: the generator is neither trained nor saved.

    Args:
        checkpoint: Checkpoint of the generator.
        generator: Config of the generator.
        has_background: Class 0 of the generator's layouts is the background.
        ratio: Number of generated images for each real image of a batch. A batch
            gets at least one generated image.
        cache: Number of images to draw once and keep as bytes on the CPU; batches
            choose among these. 0 (default) draws new images for every batch.

    Raises:
        InputError: A number cannot be used.
    """

    def __init__(
        self,
        checkpoint: str,
        generator: Mapping[str, Any],
        has_background: bool,
        ratio: float = 0.5,
        cache: int = 0,
    ) -> None:
        if ratio <= 0 or isinstance(cache, bool) or not isinstance(cache, int) or cache < 0:
            raise InputError(
                'GeneratedReplay: ratio must be above 0 and cache a whole number, 0 '
                f'or more, got {ratio!r} and {cache!r}'
            )
        self.checkpoint = checkpoint
        self.ratio = ratio
        self.cache = cache
        self.has_background = has_background
        self.network: LayoutGenerator = MODELS.build(dict(generator))
        self.network.eval().requires_grad_(False)
        self._loaded = False
        self._seed = 0
        self._kept: Tensor | None = None

    def load(self) -> None:
        """Read the generator's weights.

        Raises:
            InputError: The file is missing, damaged, or of another generator.
        """
        try:
            state = read_weights(self.checkpoint)
            self.network.load_state_dict(state['state_dict'])
        except (*UNREADABLE, RuntimeError, KeyError, TypeError) as error:
            raise InputError(
                f'the generator {self.checkpoint} cannot be used '
                f'({type(error).__name__}: {error}): its sub-step must have finished '
                'with the settings of this config'
            ) from error
        require_finite(
            state['state_dict'],
            f'the generator {self.checkpoint}',
            'Train its sub-step anew, with a smaller learning rate',
        )
        self._loaded = True

    def set_iteration_seed(self, seed: int) -> None:
        """Take the seed of the next iteration, the same on all processes."""
        self._seed = seed

    def count(self, batch: int) -> int:
        """Return the number of generated images for ``batch`` real images."""
        return max(1, round(batch * self.ratio))

    @torch.no_grad()
    def images(self, count: int, device: torch.device) -> Tensor:
        """Return the images of this process and iteration, ``(count, 3, H, W)``, normalised."""
        if not self._loaded:
            raise RuntimeError('the generator is not loaded: call load() before training')
        if next(self.network.parameters()).device != device:
            self.network.to(device)
        places = [get_rank() * count + place for place in range(count)]
        if not self.cache:
            return self._draw([(self._seed, place) for place in places], device)
        chosen = [
            int(np.random.default_rng((self._seed, place)).integers(self.cache)) for place in places
        ]
        return self.network.from_bytes(to_device(self._cached(device)[chosen], device))

    def _draw(self, seeds: list[tuple[int, ...]], device: torch.device) -> Tensor:
        network = self.network
        drawn = [
            draw(seed, network.num_classes, self.has_background, network.size, network.noise_size)
            for seed in seeds
        ]
        noise, layouts = (
            to_device(torch.from_numpy(np.stack(arrays)), device)
            for arrays in zip(*drawn, strict=True)
        )
        images: Tensor = network(noise, layouts)
        return images

    def _cached(self, device: torch.device) -> Tensor:
        if self._kept is None:
            # Every step has its own generator, so the place of an image is enough as its seed.
            parts = [
                self.network.to_bytes(
                    self._draw(
                        [(place,) for place in range(first, min(first + 16, self.cache))], device
                    )
                ).cpu()
                for first in range(0, self.cache, 16)
            ]
            self._kept = torch.cat(parts)
        return self._kept

    def extend(self, inputs: Tensor, data_samples: SampleList) -> tuple[Tensor, SampleList, int]:
        """Append generated images, enlarged to the size of the real ones.

        Args:
            inputs: ``(N, 3, H, W)``, normalised.
            data_samples: Data samples of these images.

        Returns:
            Images ``(N + m, 3, H, W)``, their samples, and m.
        """
        count = self.count(len(inputs))
        drawn = self.images(count, inputs.device)
        size = inputs.shape[2:]
        if drawn.shape[2:] != size:
            drawn = functional.interpolate(drawn, size, mode='bilinear', align_corners=False)
        labels = torch.full((1, *size), IGNORED, dtype=torch.int64, device=inputs.device)
        sample = SegDataSample(
            metainfo=dict(img_shape=tuple(size), ori_shape=tuple(size), pad_shape=tuple(size)),
            gt_sem_seg=PixelData(data=labels),
        )
        return (
            torch.cat([inputs, drawn.to(inputs.dtype)]),
            [*data_samples, *(sample for _ in range(count))],
            count,
        )
