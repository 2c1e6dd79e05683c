"""The test images of a step as MMEngine's plain dataset, with the step's meaning of their masks.

MMSegmentation's own dataset classes ignore every class that is not named, and test
all images. A list of the step's images, each with the table from mask ids to
labels that ``LoadAnnotations`` applies, is scored as the walk scores it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mmseg_cil.datasets import IncrementalDataset
from mmseg_cil.datasets.pipeline import PLACE
from mmseg_cil.utils.atomic import write_text

FILE_NAME = 'test_set.yaml'

#: Placeholder that MMEngine replaces by the folder of a config when it reads the config.
_BESIDE_CONFIG = '{{ fileDirname }}'
#: Keys that every entry has; the other keys are what the dataset says of an image besides.
_OWN_KEYS = ('label_map', 'reduce_zero_label', 'seg_fields', 'sample_idx', PLACE)


def write_test_set(
    view: IncrementalDataset, folder: Path, data_root: str | None
) -> tuple[dict[str, Any], list[str]]:
    """Write the list of a step's test images beside its config.

    Args:
        view: View of the step's images of the split 'test'.
        folder: Folder of the step.
        data_root: Data root of the user's dataset; paths below it are written relative to it.

    Returns:
        The config of the dataset, without pipeline, and the keys that the user's
        dataset gives an image and that a list cannot hold.
    """
    infos = [view.get_data_info(index) for index in range(len(view))]
    lost = sorted(
        {
            key
            for info in infos
            for key, value in info.items()
            if key not in _OWN_KEYS and not _is_plain(value)
        }
    )
    entries = [
        {key: value for key, value in info.items() if key not in _OWN_KEYS and key not in lost}
        for info in infos
    ]
    root, paths = _below(entries, data_root)
    # All images of a data set share one object, which the file then holds only once.
    places = [view.place_of(index) for index in range(len(view))]
    tables = {place: label_map(view, place) for place in set(places)}
    listed = [
        {**entry, 'label_map': tables[place], 'reduce_zero_label': False, 'seg_fields': []}
        for place, entry in zip(places, entries, strict=True)
    ]
    stream = io.StringIO()
    yaml.dump(
        {'metainfo': {}, 'data_list': listed},
        stream,
        sort_keys=False,
        allow_unicode=True,
        Dumper=getattr(yaml, 'CSafeDumper', yaml.SafeDumper),
    )
    write_text(folder / FILE_NAME, stream.getvalue())
    meta = view.metainfo
    return dict(
        type='mmengine.dataset.BaseDataset',
        ann_file=f'{_BESIDE_CONFIG}/{FILE_NAME}',
        data_root=root,
        data_prefix=dict.fromkeys(paths, ''),
        metainfo=dict(classes=list(meta['classes']), palette=meta['palette']),
        test_mode=True,
    ), lost


def label_map(view: IncrementalDataset, place: int) -> dict[int, int]:
    """Return the labels of the mask ids whose label at a view's step is another number.

    Args:
        view: View of test images.
        place: Index of one of the view's data sets, as ``Step.data`` counts them.
    """
    table = view.data.labels[place].table
    return {
        mask_id: int(table[mask_id])
        for mask_id in sorted(view.data.known_mask_ids(place))
        if int(table[mask_id]) != mask_id
    }


def quote_folder(text: str) -> str:
    """Quote the path of the list in a config's text so that its folder may have any name."""
    path = f'{_BESIDE_CONFIG}/{FILE_NAME}'
    return text.replace(f"'{path}'", f'r"""{path}"""')


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, (str, int)) and _is_plain(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


def _below(entries: Sequence[dict[str, Any]], root: str | None) -> tuple[str, list[str]]:
    """Make the paths of each key relative to the root, in place, if all of them are below it.

    Return the root ('' where no paths are changed) and the keys whose paths are relative to it.
    """
    start = '' if root is None else os.path.join(root, '')
    keys = [
        key
        for key in (entries[0] if entries else ())
        if start
        and all(
            isinstance(entry.get(key), str) and entry[key].startswith(start) for entry in entries
        )
    ]
    if not {'img_path', 'seg_map_path'} <= set(keys):
        # MMEngine joins the root with every path or none.
        return '', [key for key in ('img_path', 'seg_map_path') if entries]
    for entry in entries:
        entry.update({key: entry[key][len(start) :] for key in keys})
    return str(root), keys
