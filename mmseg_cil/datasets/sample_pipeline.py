"""A pipeline that checks that image and mask fit each other, and names a file that fails."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.dataset import Compose

from mmseg_cil.datasets.kept_masks import KeptMasks, keeps
from mmseg_cil.datasets.pipeline import first_way
from mmseg_cil.errors import InputError

# Any of these transforms before the loading of the mask moves the image alone.
_MOVING = ('RandomRotate', 'RandomRotFlip', 'RandomAffine', 'BioMedical3DRandomFlip')
# These move the image alone too, unless the image is as large as the crop, as in a stock test
# pipeline. In training the sizes of image and mask then differ; at test only the size of the image
# as loaded counts.
_CROPPING = ('RandomCrop', 'CenterCrop', 'BioMedical3DRandomCrop')
# At test the prediction is flipped back before it is compared.
_MOVING_IN_TRAINING = (*_MOVING, 'RandomFlip')


class SamplePipeline(Compose):
    """The transforms of one split, applied to one image after the other.

    As soon as image and mask are both loaded, their sizes are compared. In training
    the current size of the image is compared, which later transforms see; at test the
    size as loaded, because a prediction has the size of the loaded image.

    Args:
        transforms: The transforms, as configs or objects.
        split: ``'train'`` or ``'test'``.
        kept: Keeps decoded masks. None: each mask is decoded each time.

    Raises:
        InputError: A transform moves the image before its mask is loaded.
    """

    def __init__(
        self, transforms: Sequence[Any] | None, split: str, kept: KeptMasks | None = None
    ) -> None:
        super().__init__(transforms)
        self.split, self.kept = split, kept
        self.kinds = [type(transform).__name__ for transform in self.transforms]
        _check_order(self.kinds, split)

    def __call__(self, data: dict) -> dict | None:
        """Load and change one sample.

        Args:
            data: The input of the pipeline.

        Returns:
            The output of the last transform, or None where a transform gives the image up.

        Raises:
            InputError: A transform fails on the image, or image and mask do not fit.
        """
        return self.until(data, '')

    def until(self, data: dict, key: str) -> dict | None:
        """Apply the transforms up to the first that makes a key.

        Within ``TestTimeAug`` the transforms of the first way are applied, one by one.

        Args:
            data: The input of the pipeline.
            key: A key such as 'img' or 'gt_seg_map'; no transform makes '', so that '' applies
                all transforms.

        Returns:
            The output of the last applied transform; None where a transform gives the image up.

        Raises:
            InputError: A transform fails on the image, or image and mask do not fit.
        """
        paths = data.get('img_path', ''), data.get('seg_map_path', '')
        sample: Any = data
        compared = False
        for transform in first_way(self.transforms) if key else self.transforms:
            kind, before = type(transform).__name__, _image_size(sample)
            try:
                if self.kept is not None and keeps(transform):
                    sample = self.kept.load(transform, sample)
                else:
                    sample = transform(sample)
            except (InputError, MemoryError):
                raise
            except Exception as error:
                raise InputError(self._failure(transform, paths, error)) from error
            if sample is None:
                return None
            if not compared and _is_loaded(sample):
                self._compare(sample, paths)
                compared = True
            if (
                kind in _CROPPING
                and self.split == 'test'
                and not compared
                and _image_size(sample) != before
                and 'LoadAnnotations' in self.kinds
            ):
                raise InputError(_early(kind, self.split))
            if isinstance(sample, Mapping) and key in sample:
                break
        result: dict = sample
        return result

    def _failure(self, transform: Any, paths: tuple[str, str], error: Exception) -> str:
        kind = type(transform).__name__
        why = ' '.join(str(error).split())[:300]
        if kind.startswith('Load'):
            path = paths['Annotation' in kind]
            return (
                f'{path} cannot be read by {kind} ({type(error).__name__}: {why}): restore '
                'the file, or take its name out of the list of images'
            )
        last = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f'{kind} in the pipeline of the {self.split} split fails on {paths[0]}: '
            f'{type(error).__name__}: {why} ({last.filename}:{last.lineno})'
        )

    def _compare(self, data: Mapping[str, Any], paths: tuple[str, str]) -> None:
        image, mask = data['img'].shape[:2], data['gt_seg_map'].shape[:2]
        if self.split == 'test':
            image = tuple(data.get('ori_shape', mask)[:2])
        if image == mask or data['gt_seg_map'].ndim != 2:
            return
        loading = next((i for i, kind in enumerate(self.kinds) if 'Annotation' in kind), 0)
        before = [kind for kind in self.kinds[:loading] if not kind.startswith('Load')]
        advice = 'make them of one size'
        if image == mask[::-1]:
            advice = (
                'an EXIF orientation seems to turn the image but not its mask; load it '
                "with LoadImageFromFile(color_type='color_ignore_orientation')"
            )
        elif before and self.split == 'train':
            advice = f'LoadAnnotations must come before {" and ".join(before)}'
        raise InputError(
            f'image and mask differ in size once they are loaded: {paths[0]} is '
            f'{image[1]}x{image[0]}, {paths[1]} is {mask[1]}x{mask[0]}: {advice}'
        )


def _is_loaded(data: Any) -> bool:
    return (
        isinstance(data, Mapping)
        and all(isinstance(data.get(key), np.ndarray) for key in ('img', 'gt_seg_map'))
        and data['img'].ndim in (2, 3)
    )


def _check_order(kinds: Sequence[str], split: str) -> None:
    loading = next((i for i, kind in enumerate(kinds) if 'LoadAnnotation' in kind), 0)
    moving = _MOVING_IN_TRAINING if split == 'train' else _MOVING
    early = [kind for kind in kinds[:loading] if kind in moving]
    if early:
        raise InputError(_early(early[0], split))


def _early(kind: str, split: str) -> str:
    return (
        f'the pipeline of the {split} split has {kind} before LoadAnnotations, so that it '
        'moves the image and not its mask: put LoadAnnotations first'
    )


def _image_size(sample: Any) -> tuple[int, ...] | None:
    image = sample.get('img') if isinstance(sample, Mapping) else None
    return image.shape[:2] if isinstance(image, np.ndarray) else None
