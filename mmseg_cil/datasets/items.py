"""Reading of any MMSegmentation dataset config into one plain list of images."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from mmseg_cil.datasets.class_index import ClassIndex, load_or_build_index
from mmseg_cil.datasets.lists import other_suffixes, read_infos, unused_files
from mmseg_cil.errors import InputError
from mmseg_cil.protocols.taxonomy import IGNORE, read_void_ids
from mmseg_cil.registry import DATASETS

DatasetConfig = Mapping[str, Any]

_CACHE_FOLDER = '.mmseg_cil'


@dataclass(frozen=True)
class Source:
    """One leaf of a dataset config, built but not yet read.

    Attributes:
        dataset: The MMSegmentation dataset, without its pipeline.
        pipeline: The pipeline of the dataset's config.
        times: How often each image of the dataset counts (``RepeatDataset``).
        void_ids: Mask ids besides 255 that belong to no class, from the dataset's config.
    """

    dataset: BaseDataset
    pipeline: list[Any]
    times: int = 1
    void_ids: tuple[int, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names that the dataset declares."""
        return tuple(self.dataset.metainfo.get('classes') or ())

    @property
    def palette(self) -> list[list[int]]:
        """Return the colours that the dataset declares, one a class."""
        return [list(map(int, colour)) for colour in self.dataset.metainfo.get('palette') or ()]

    @property
    def reduce_zero_label(self) -> bool:
        """Return whether the dataset's class i stands in the masks as i + 1."""
        return bool(getattr(self.dataset, 'reduce_zero_label', False))


@dataclass
class Items:
    """The distinct images of one or several datasets.

    Attributes:
        infos: The inputs of MMSegmentation's pipeline, one dict an image.
            Masks are to be read raw: ``reduce_zero_label`` is False and
            ``label_map`` None in each dict.
        names: Paths relative to the image folder, with '/' and without suffix.
        times: int64 (N,): how often each image occurs.
        notes: Notes for the user on the lists and folders, one sentence each.
    """

    infos: list[dict[str, Any]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    times: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    notes: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[tuple[str, str]]:
        """Return image and mask path of every image."""
        return [(info['img_path'], info['seg_map_path']) for info in self.infos]


def open_sources(config: DatasetConfig | Sequence[DatasetConfig]) -> list[Source]:
    """Build the datasets of a config without reading their lists.

    Args:
        config: A dataset config of MMSegmentation, or several configs to pool.
            ``ConcatDataset`` and ``RepeatDataset`` may be nested in a config.

    Returns:
        The leaves, at least one, which all have the same classes.

    Raises:
        InputError: A config cannot be built, wraps datasets in another way, or
            the classes of the leaves differ or are reordered by ``metainfo``.
    """
    configs = [config] if isinstance(config, Mapping) else list(config)
    sources = [source for each in configs for source in _leaves(each)]
    if not sources:
        raise InputError('no dataset is given: the list of datasets is empty; name one or more')
    first = sources[0]
    for other in sources[1:]:
        if _meaning(other) != _meaning(first):
            raise InputError(
                'datasets that are pooled must have the same classes, reduce_zero_label and '
                f'void_ids: {_name(first.dataset)} and {_name(other.dataset)} differ. Give both '
                'the same, or let a step have a data set of its own (data of protocol.steps)'
            )
    return sources


def _meaning(source: Source) -> tuple[tuple[str, ...], bool, frozenset[int]]:
    return source.classes, source.reduce_zero_label, frozenset(source.void_ids)


def _leaves(config: DatasetConfig, times: int = 1) -> list[Source]:
    if not isinstance(config, Mapping) or 'type' not in config:
        raise InputError(f'a dataset must be a config with a type, not {config!r:.200}')
    kind = config['type']
    kind = kind if isinstance(kind, str) else kind.__name__
    kind = kind.rsplit('.', 1)[-1]
    wraps = 'dataset' in config or 'datasets' in config
    if wraps and 'void_ids' in config:
        raise InputError(f'{kind} has void_ids: give them to the datasets in it')
    if kind == 'RepeatDataset':
        return _leaves(config['dataset'], times * int(config['times']))
    if kind == 'ConcatDataset':
        return [leaf for child in config['datasets'] for leaf in _leaves(child, times)]
    if wraps:
        raise InputError(
            f'{kind} wraps a dataset in a way that is not supported; use the dataset itself, '
            'ConcatDataset, RepeatDataset or a list of datasets'
        )
    return [_build(config, kind, times)]


def _build(config: DatasetConfig, kind: str, times: int) -> Source:
    own = copy.deepcopy(dict(config))
    pipeline = list(own.pop('pipeline', None) or [])
    void_ids = read_void_ids(own.pop('void_ids', None), kind)
    own['lazy_init'] = True
    try:
        dataset = DATASETS.build(own)
        left_out = _left_out(dataset, kind)
        if left_out:
            # The ids in the masks count all classes of the dataset class.
            own['metainfo'] = {
                key: value
                for key, value in own['metainfo'].items()
                if key not in ('classes', 'palette')
            }
            dataset = DATASETS.build(own)
    except (AssertionError, FileNotFoundError) as error:
        # PascalVOCDataset asserts, without a message, that its files exist.
        where = {key: own[key] for key in ('data_root', 'ann_file') if key in own}
        raise InputError(
            f'{kind} could not be opened with {where}: '
            f'{str(error) or "a file or folder is missing"}. '
            'Check that data_root, data_prefix and ann_file exist.'
        ) from error
    return Source(dataset, pipeline, times, tuple(dict.fromkeys((*void_ids, *left_out))))


def _left_out(dataset: BaseDataset, kind: str) -> tuple[int, ...]:
    """Return the mask ids of the classes that ``metainfo.classes`` leaves out, which are void.

    Raises:
        InputError: ``metainfo.classes`` reorders the classes.
    """
    if getattr(dataset, 'label_map', None) is None:
        return ()
    every = [str(name) for name in type(dataset).METAINFO['classes']]
    kept = [str(name) for name in dataset.metainfo['classes']]
    if [name for name in every if name in kept] != kept:
        raise InputError(
            f'{kind}: metainfo.classes reorders the classes of the dataset. Leave it '
            'out and say in the protocol (class_order or steps) which classes come when.'
        )
    first = int(bool(getattr(dataset, 'reduce_zero_label', False)))
    return tuple(index + first for index, name in enumerate(every) if name not in kept)


def read_items(sources: Sequence[Source], look_around: bool = False) -> Items:
    """Read the lists of images of all sources.

    An image that occurs several times is kept once, and counted.

    Args:
        sources: The leaves, from :func:`open_sources`.
        look_around: Whether to note also which files beside the images are left
            out; the folders are then listed once more.

    Returns:
        The images in the order in which they first occur.

    Raises:
        InputError: A list cannot be read or is empty, or has no masks.
    """
    items = Items()
    counts: list[int] = []
    seen: dict[tuple[str, str], int] = {}
    for source in sources:
        infos = _read(source.dataset, items.notes)
        ignored = getattr(source.dataset, 'ignore_index', IGNORE)
        if ignored not in (IGNORE, *source.void_ids):
            items.notes.append(
                f'{_name(source.dataset)} has ignore_index={ignored}, which MMSegmentation does '
                f'not heed: if it is an id of the masks that belongs to no class, say '
                f'void_ids=[{ignored}]'
            )
        if look_around:
            items.notes += unused_files(source.dataset, infos)
        for info in infos:
            path = (info['img_path'], info['seg_map_path'])
            if path in seen:
                counts[seen[path]] += source.times
                continue
            seen[path] = len(counts)
            counts.append(source.times)
            items.infos.append(info)
            items.names.append(image_name(source.dataset, info['img_path']))
    items.times = np.array(counts, np.int64)
    return items


def _read(dataset: BaseDataset, notes: list[str]) -> list[dict[str, Any]]:
    infos = read_infos(dataset, _name(dataset), notes)
    if not infos:
        folder = dataset.data_prefix.get('img_path') or ''
        found = other_suffixes(folder, getattr(dataset, 'img_suffix', ''))
        raise InputError(
            f'{_name(dataset)}: no image found in {folder!r}{found}; check '
            'data_root, data_prefix, img_suffix and ann_file'
        )
    for info in infos:
        if not info.get('seg_map_path'):
            raise InputError(
                f'{_name(dataset)}: no mask is given for {info["img_path"]}; set '
                'data_prefix=dict(img_path=..., seg_map_path=...)'
            )
        info.update(reduce_zero_label=False, label_map=None, seg_fields=[])
        try:
            info['img_path'].encode('utf-8')
        except UnicodeEncodeError:
            raise InputError(
                f'{_name(dataset)}: the name of the file {info["img_path"]!r} is not in UTF-8: '
                'rename it'
            ) from None
    return infos


def image_name(dataset: BaseDataset, path: str) -> str:
    """Return the name of an image: its path below the image folder, with '/', without suffix.

    Examples are 'aachen/aachen_000000_000019' (Cityscapes) and '2007_000032' (VOC).
    """
    folder = dataset.data_prefix.get('img_path') or ''
    name = os.path.relpath(path, folder) if folder else os.path.basename(path)
    suffix = getattr(dataset, 'img_suffix', '')
    has_suffix = bool(suffix) and name.endswith(suffix)
    name = name[: -len(suffix)] if has_suffix else os.path.splitext(name)[0]
    return name.replace(os.sep, '/')


def index_items(
    sources: Sequence[Source], items: Items, cache_dirs: Sequence[str | os.PathLike[str]] = ()
) -> ClassIndex:
    """Return the mask ids that occur in every image (see :func:`load_or_build_index`).

    The cache is kept beside the data of the first source or, if that folder
    cannot be written, in one of ``cache_dirs``.

    Args:
        sources: The leaves, from :func:`open_sources`.
        items: N images, from :func:`read_items`.
        cache_dirs: Folders to fall back upon, such as the work directory.

    Returns:
        The index of the N images.

    Raises:
        InputError: Images or masks are missing or broken.
    """
    root = getattr(sources[0].dataset, 'data_root', None)
    beside = [Path(root) / _CACHE_FOLDER] if root and os.path.isdir(root) else []
    folders = dict.fromkeys(Path(folder).absolute() for folder in [*beside, *cache_dirs])
    return load_or_build_index(items.paths, items.names, list(folders))


def _name(dataset: BaseDataset) -> str:
    return f'{type(dataset).__name__}({dataset.data_root!r})'
