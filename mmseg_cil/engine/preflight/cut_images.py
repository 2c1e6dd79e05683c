"""Smaller images for a trial on a CPU, whose sizes keep the remainder that networks may refuse."""

from __future__ import annotations

from typing import Any

from mmengine.structures import PixelData
from torch import nn

#: A longer side loses multiples of GRID until it is at most this long.
LONGEST = 128
#: No network here has a larger total stride, so a stride that divided a side still does.
GRID = 64


def cut_images(preprocessor: nn.Module, args: Any, data: Any) -> Any:
    """Keep the upper left of the images of a batch, and of labels of their size.

    This is a forward hook of data preprocessors. Sides keep their remainder by 64.

    Args:
        preprocessor: Data preprocessor that has this hook.
        args: Arguments of the preprocessor's forward.
        data: Output of the preprocessor: ``inputs`` (a batch) and perhaps ``data_samples``.
    """
    if not isinstance(data, dict) or getattr(data.get('inputs'), 'ndim', 0) != 4:
        return data
    former = tuple(data['inputs'].shape[-2:])
    size = kept_side(former[0]), kept_side(former[1])
    if size == former:
        return data
    for sample in data.get('data_samples') or []:
        _cut_sample(sample, former, size)
    return {**data, 'inputs': data['inputs'][..., : size[0], : size[1]]}


def kept_side(side: int) -> int:
    """Return the kept length of a side: at most 128, with the same remainder by 64 as before."""
    return side - max(0, -(-(side - LONGEST) // GRID)) * GRID


def _cut_sample(sample: Any, former: tuple[int, ...], size: tuple[int, int]) -> None:
    """Cut the fields of a sample that have the size of the padded image or of its content."""
    meta = sample.metainfo
    _, right, _, bottom = meta.get('img_padding_size') or meta.get('padding_size') or (0, 0, 0, 0)
    content = former[0] - bottom, former[1] - right
    inner = min(content[0], size[0]), min(content[1], size[1])
    new_sizes = {content: inner, former: size}
    for name, field in list(sample.all_items()):
        if isinstance(field, PixelData) and field.shape in new_sizes:
            height, width = new_sizes[field.shape]
            cut = PixelData(**{key: value[..., :height, :width] for key, value in field.items()})
            sample.set_data({name: cut})
    padding = (0, size[1] - inner[1], 0, size[0] - inner[0])
    changes: dict[str, Any] = {
        key: padding for key in ('img_padding_size', 'padding_size') if key in meta
    }
    # A prediction gets the size of the label; a label of the image's size is cut.
    if tuple(meta.get('ori_shape') or ()) == content:
        changes['ori_shape'] = inner
    sample.set_metainfo(dict(changes, img_shape=size))
