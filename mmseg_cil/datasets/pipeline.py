"""Adaptation of a user's pipeline to a step, and repeatable randomness for it."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Resize
from mmengine.dataset import Compose

from mmseg_cil.errors import InputError

# The transforms of a training pipeline that draw no random numbers.
_FIXED = (
    'LoadImageFromFile',
    'LoadImageFromNDArray',
    'LoadAnnotations',
    'Resize',
    'ResizeShortestEdge',
    'ResizeToMultiple',
    'Normalize',
    'CLAHE',
    'AdjustGamma',
    'Rerange',
    'RGB2Gray',
    'MapLabels',
    'PackSegInputs',
)
#: Length of a long side that bounds nothing.
_UNBOUNDED = 1_000_000


#: Key under which a sample of a view over several data sets names its data set.
PLACE = 'cil_place'
#: Packages whose transforms are known; their transforms outside ``_FIXED`` augment.
_PACKAGES = ('mmcv', 'mmseg', 'mmdet', 'mmpretrain', 'mmseg_cil')


def step_pipeline(pipeline: Sequence[Any], table: np.ndarray, reduce_zero_label: bool) -> list[Any]:
    """Put :class:`MapLabels` into a pipeline, right before ``PackSegInputs``.

    In a pipeline with ``GenerateEdge``, whose edges between classes are a target too,
    ``MapLabels`` goes before it, so that the edges do not show classes that the step
    does not know.

    ``LoadAnnotations`` must read masks raw, because the table starts from the raw ids.
    Older configs repeat the dataset's ``reduce_zero_label`` in ``LoadAnnotations``; the
    key is dropped there. (This is a choice: refusing such configs would refuse most
    ADE20K configs in use. A value that contradicts the dataset is refused, as
    MMSegmentation itself does.)

    Args:
        pipeline: Transforms of MMSegmentation, as configs or objects. In a
            ``TestTimeAug`` the packing may be inside.
        table: uint8 (256,), the step's label of every mask id.
        reduce_zero_label: The dataset's ``reduce_zero_label``.

    Returns:
        A new list.

    Raises:
        InputError: There is no ``PackSegInputs``, or ``reduce_zero_label``
            contradicts the dataset.
    """
    mapping = dict(type='MapLabels', table=table.tolist())
    result: list[Any] = []
    found = packs = False
    for transform in copy.deepcopy(list(pipeline)):
        kind = kind_of(transform)
        if kind == 'LoadAnnotations':
            _read_raw(transform, reduce_zero_label)
        elif kind == 'TestTimeAug':
            found |= _fit_test_time_aug(transform, mapping, reduce_zero_label)
            packs |= found
        elif kind in ('GenerateEdge', 'PackSegInputs') and not found:
            result.append(mapping)
            found = True
        packs |= kind == 'PackSegInputs'
        result.append(transform)
    if not packs:
        raise InputError(
            'the pipeline has no PackSegInputs, before which the labels of the step are mapped; '
            'end it with dict(type="PackSegInputs")'
        )
    return result


def with_further_map(pipeline: Sequence[Any], further_map: Mapping[str, Any]) -> list[Any]:
    """Return a pipeline with a transform behind the last ``LoadAnnotations``.

    Args:
        pipeline: Transforms, as configs or objects; one of them is ``LoadAnnotations``.
        further_map: The config of the transform.
    """
    result = list(pipeline)
    kinds = [kind_of(transform) for transform in result]
    last = len(kinds) - 1 - kinds[::-1].index('LoadAnnotations')
    result.insert(last + 1, copy.deepcopy(dict(further_map)))
    return result


def kind_of(transform: Any) -> str:
    """Return the name of a transform's class, given as config or object."""
    kind = transform.get('type') if isinstance(transform, Mapping) else type(transform)
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rsplit('.', 1)[-1]


def _read_raw(transform: Any, declared: bool) -> None:
    is_config = isinstance(transform, dict)
    given = (
        transform.pop('reduce_zero_label', None)
        if is_config
        else getattr(transform, 'reduce_zero_label', None)
    )
    if not is_config:
        transform.reduce_zero_label = False
    if given is not None and bool(given) != declared:
        raise InputError(
            f'LoadAnnotations says reduce_zero_label={given}, the dataset says {declared}. Say it '
            'once, in the dataset.'
        )


def _fit_test_time_aug(transform: Any, mapping: dict, declared: bool) -> bool:
    """Put the mapping into ``TestTimeAug`` as its own list, since lists hold alternatives."""
    stages = transform.get('transforms') if isinstance(transform, dict) else None
    place = None
    for number, stage in enumerate(stages or []):
        for way in stage:
            if kind_of(way) == 'LoadAnnotations':
                _read_raw(way, declared)
            elif kind_of(way) == 'PackSegInputs' and place is None:
                place = number
    if stages is None or place is None:
        return False
    stages.insert(place, [mapping])
    return True


def crop_of(pipeline: Sequence[Any]) -> tuple[int, int] | None:
    """Return height and width of the last crop of a training pipeline; None without a crop.

    Args:
        pipeline: Transforms as configs.
    """
    crop: Any = None
    for transform in pipeline:
        if not isinstance(transform, Mapping):
            continue
        if kind_of(transform) == 'RandomCrop':
            crop = transform.get('crop_size', crop)
        elif kind_of(transform) == 'RandomResizedCrop' and transform.get('scale') is not None:
            # In every scale of MMCV the width comes before the height.
            scale = transform['scale']
            crop = scale if isinstance(scale, int) else tuple(scale)[::-1]
    return (crop, crop) if isinstance(crop, int) else None if crop is None else tuple(crop)


def first_way(transforms: Iterable[Any]) -> Iterator[Any]:
    """Yield the transforms in order; a built ``TestTimeAug`` yields those of its first way."""
    for transform in transforms:
        ways = getattr(transform, 'subroutines', None)
        yield from first_way(ways[0].transforms) if ways else [transform]


def without_augmentation(dataset: Any) -> Any:
    """Return the same images with a pipeline that loads, resizes to a fixed size, and packs.

    A network sees objects there at about the size that they have in training: ``RandomResize``
    resizes to its scale at the ratio 1 (or the nearest ratio in its range), to the middle of two
    scales, ``RandomChoiceResize`` to the median of its scales by area, and ``RandomResizedCrop``
    resizes the short side to that of its crops, as in the papers' test geometry. Random
    transforms within others (``RandomChoice``, ``RandomApply``) are left out whole.

    The user's own transforms stay, because they may make an image fit the network. If they draw
    random numbers, ask the dataset by ``SampleKey``, which seeds them.

    Args:
        dataset: A view of the data at a step; it is not changed.
    """
    plain = copy.copy(dataset)
    several = getattr(dataset.pipeline, 'by_place', None)
    if several is None:
        plain.pipeline = _fixed(dataset.pipeline)
    else:
        plain.pipeline = type(dataset.pipeline)(
            {place: _fixed(pipeline) for place, pipeline in several.items()}
        )
    return plain


def _fixed(pipeline: Any) -> Compose:
    plain = [_without_chance(transform) for transform in pipeline.transforms]
    return Compose([transform for transform in plain if transform is not None])


def _without_chance(transform: Any) -> Any:
    """Return a transform without its random part; None: nothing is left of it."""
    if not _augments(transform):
        return transform
    name = kind_of(transform)
    if name == 'RandomResizedCrop':
        # Images lose the crop's aspect and keep the scale of its short side.
        scale = (_UNBOUNDED, min(transform.scale))
        return Resize(scale=scale, keep_ratio=True, backend=transform.backend)
    usual = _usual_scale(transform)
    if usual is None:
        return None
    resize = copy.copy(transform.resize)
    resize.scale = usual
    return resize


def _usual_scale(transform: Any) -> int | tuple[int, int] | None:
    """Return the usual scale of MMCV's ``RandomResize`` or ``RandomChoiceResize``, else None.

    Args:
        transform: A transform, as object.

    Returns:
        (width, height), or the short side where the transform's scales are single numbers.
    """
    name = kind_of(transform)
    if name == 'RandomChoiceResize':
        scales = sorted(transform.scales, key=np.prod)
        chosen: int | tuple[int, int] = scales[len(scales) // 2]
        return chosen
    if name != 'RandomResize':
        return None
    if np.ndim(transform.scale) == 2:
        width, height = np.mean(transform.scale, axis=0)
        return round(width), round(height)
    low, high = transform.ratio_range
    ratio = min(max(1.0, low), high)
    width, height = transform.scale
    return int(width * ratio), int(height * ratio)


def _augments(transform: Any) -> bool:
    """Return whether a transform counts as random; a user's own transform never does."""
    name, package = kind_of(transform), type(transform).__module__.partition('.')[0]
    return package in _PACKAGES and name not in _FIXED and not name.startswith('Load')


@contextlib.contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Seed ``random``, NumPy and torch (CPU) from a key, within a block.

    After the block all three go on with their former states, so the random numbers of
    the training process do not change where it loads data itself (``num_workers=0``).

    Args:
        key: Non-negative integers.
    """
    former = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    words = np.random.SeedSequence(key).generate_state(8)
    random.seed(words[:4].tobytes())
    np.random.seed(words[4:])
    # torch.manual_seed would reach for the generators of the GPUs as well.
    torch.default_generator.manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
    try:
        yield
    finally:
        random.setstate(former[0])
        np.random.set_state(former[1])
        torch.default_generator.set_state(former[2])
