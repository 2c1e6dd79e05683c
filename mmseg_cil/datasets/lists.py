"""Tolerant reading of the lists and folders that tell a dataset's images.

A list may come from another system or from a spreadsheet: with a byte order
mark, other line ends, backslashes, suffixes. A line that surely means an existing
image is read as that image. Every other line that MMSegmentation would not
understand stays as it is, and is reported as a missing image.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmseg.datasets import BaseSegDataset

from mmseg_cil.errors import InputError
from mmseg_cil.utils.text import read_lines

Info = dict[str, Any]


class Folders:
    """The names of the files in folders; each folder is read once.

    Listing a folder tells the real spelling of all its files; asking for each
    file would be slow over a network.
    """

    def __init__(self) -> None:
        self._names: dict[str, frozenset[str] | None] = {}
        self._folded: dict[str, dict[str, list[str]]] = {}

    def names(self, folder: str) -> frozenset[str] | None:
        """Return the names in a folder; None where the folder cannot be read."""
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder or '.'))
            except OSError:
                self._names[folder] = None
        return self._names[folder]

    def has(self, path: str) -> bool:
        """Return whether a file with exactly this spelling exists."""
        folder, name = os.path.split(path)
        return name in (self.names(folder) or ())

    def find(self, path: str, suffix: str) -> str | None:
        """Return an existing file, if need be with its suffix in another case; None: no file."""
        if self.has(path):
            return path
        folder, name = os.path.split(path)
        if folder not in self._folded:
            folded: dict[str, list[str]] = {}
            for own in self.names(folder) or ():
                folded.setdefault(own.lower(), []).append(own)
            self._folded[folder] = folded
        stem = name[: len(name) - len(suffix)]
        alike = [own for own in self._folded[folder].get(name.lower(), ()) if own.startswith(stem)]
        return os.path.join(folder, alike[0]) if len(alike) == 1 else None


def read_infos(dataset: BaseDataset, name: str, notes: list[str]) -> list[Info]:
    """Read the list of a dataset's images.

    Args:
        dataset: An MMSegmentation dataset that was built without reading.
        name: The dataset's name in messages.
        notes: A list to which notes for the user are added.

    Returns:
        The input of MMSegmentation's pipeline, one dict an image.

    Raises:
        InputError: The list is missing, a folder, no text, or cannot be read.
    """
    # MMEngine fails without a message when it serialises an empty list.
    dataset.serialize_data = False
    if getattr(dataset, 'ann_file', '') is None:
        dataset.ann_file = ''
    folders = Folders()
    try:
        with _tidy_list(dataset, name, folders, notes):
            dataset.full_init()
    except InputError:
        raise
    except Exception as error:
        # Any such error concerns the user's files, settings or dataset class.
        kind = '' if isinstance(error, (AssertionError, OSError)) else f'{type(error).__name__}: '
        raise InputError(f'{name}: the list of images cannot be read: {kind}{error}') from error
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    if not getattr(dataset, 'backend_args', None):
        _settle_suffixes(dataset, infos, name, folders, notes)
    return infos


@contextlib.contextmanager
def _tidy_list(
    dataset: BaseDataset, name: str, folders: Folders, notes: list[str]
) -> Iterator[None]:
    """Let MMSegmentation read a tidied copy of a plain local list within the block."""
    path = getattr(dataset, 'ann_file', '')
    # A class with its own reader may read lists of any form; remote files are not opened here.
    own = getattr(type(dataset), 'load_data_list', None) is not BaseSegDataset.load_data_list
    if own or not path or dataset.backend_args or '://' in path:
        yield
        return
    if os.path.isdir(path):
        raise InputError(
            f'{name}: ann_file {path} is a folder, for which MMSegmentation takes all images of '
            f'data_prefix: name the text file that lists the images, or leave ann_file out'
        )
    if not os.path.isfile(path):
        raise InputError(f'{name}: there is no ann_file {path}{_near(path)}')
    lines, encoding = read_lines(path)
    if not lines:
        raise InputError(f'{name}: ann_file {path} names no image')
    names = [_settle_name(dataset, line, folders) for line in lines]
    _note_list(path, names, encoding, notes)
    with tempfile.TemporaryDirectory(prefix='mmseg_cil_') as folder:
        copy = os.path.join(folder, 'list.txt')
        with open(copy, 'w', encoding='utf-8', newline='\n') as file:
            file.write(''.join(f'{name}\n' for name in names))
        dataset.ann_file = copy
        try:
            yield
        finally:
            dataset.ann_file = path


def _near(path: str) -> str:
    folder, name = os.path.split(path)
    found = sorted(
        own
        for own in Folders().names(folder) or ()
        if own.lower().split('.')[0] == name.lower().split('.')[0]
    )
    return f'; did you mean {os.path.join(folder, found[0])}?' if found else ''


def _note_list(path: str, names: Sequence[str], encoding: str, notes: list[str]) -> None:
    if encoding in ('cp1252', 'latin-1'):
        notes.append(f'{path} is not in UTF-8 and was read as {encoding}: save it in UTF-8')
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        notes.append(
            f'{path} names {_count(len(twice), "image")} more than once (first: '
            f'{twice[0]}): in training each counts as often as it is named'
        )


def _settle_name(dataset: BaseSegDataset, line: str, folders: Folders) -> str:
    """Return a line as it stands, or without common additions, so that it names an image."""
    image_folder, suffix = dataset.data_prefix.get('img_path') or '', dataset.img_suffix
    for name in _readings(line, image_folder, dataset.data_root or '', suffix):
        if folders.find(os.path.join(image_folder, name + suffix), suffix):
            return name
    return line


def _readings(line: str, image_folder: str, root: str, suffix: str) -> Iterator[str]:
    plain = line.replace('\\', '/')
    while plain.startswith('./'):
        plain = plain[2:]
    # A whole path, or one from the root of the data, to a file in the folder of images.
    below = [
        os.path.relpath(whole, image_folder)
        for whole in (plain, os.path.join(root, plain), os.path.join(root, plain.lstrip('/')))
        if image_folder and whole.startswith(os.path.join(image_folder, ''))
    ]
    places = [*below, plain] if plain.startswith('/') else [plain, *below]
    if line[:1] not in './':
        yield line
    for place in places:
        yield place
        for ending in (suffix, os.path.splitext(suffix)[1]):
            if ending and place.lower().endswith(ending.lower()):
                yield place[: -len(ending)]


def _settle_suffixes(
    dataset: BaseDataset, infos: Sequence[Info], name: str, folders: Folders, notes: list[str]
) -> None:
    """Use files whose suffix is written in another case, and add a note about them."""
    for key, suffix in (
        ('img_path', getattr(dataset, 'img_suffix', '')),
        ('seg_map_path', getattr(dataset, 'seg_map_suffix', '')),
    ):
        changed = []
        for info in infos:
            path = info.get(key)
            if not path or not suffix or not path.endswith(suffix) or folders.has(path):
                continue
            found = folders.find(path, suffix)
            if found and found != path:
                info[key] = found
                changed.append(found)
        if changed:
            kind = 'image' if key == 'img_path' else 'mask'
            notes.append(
                f'{name}: {_count(len(changed), kind)} with the suffix {suffix!r} in '
                f'another case, such as {changed[0]}: taken'
            )


def unused_files(dataset: BaseDataset, infos: Sequence[Info]) -> list[str]:
    """Report files beside the images of a dataset that are left out.

    These are images whose suffix is in another case, and masks without an image. A
    dataset with a list of its images (``ann_file``) gets no report.

    Args:
        dataset: An MMSegmentation dataset.
        infos: The dataset's images, from :func:`read_infos`.

    Returns:
        A sentence for each kind of file.
    """
    if (
        not isinstance(dataset, BaseSegDataset)
        or dataset.ann_file
        or dataset.backend_args
        or dataset._indices is not None
        or not infos
    ):
        return []
    taken = {
        os.path.normpath(info[key])
        for info in infos
        for key in ('img_path', 'seg_map_path')
        if info.get(key)
    }
    notes = []
    images = dataset.data_prefix.get('img_path') or ''
    others = [path for path in _files_below(images, dataset.img_suffix) if path not in taken]
    if others:
        notes.append(
            f'{_count(len(others), "image")} below {images} end in '
            f'{dataset.img_suffix!r} in another case and are left out, such as '
            f'{others[0]}: rename them'
        )
    masks = dataset.data_prefix.get('seg_map_path') or ''
    others = [path for path in _files_below(masks, dataset.seg_map_suffix) if path not in taken]
    if others and masks != images:
        notes.append(
            f'{_count(len(others), "mask")} below {masks} without an image below '
            f'{images}, such as {others[0]}: left out'
        )
    return notes


def _files_below(folder: str, suffix: str) -> list[str]:
    """List the files with a suffix in any case, without hidden ones, as MMEngine lists them."""
    found = []
    for place, inner, names in os.walk(folder, followlinks=True):
        inner[:] = [wrapped for wrapped in inner if not wrapped.startswith('.')]
        found += [
            os.path.normpath(os.path.join(place, name))
            for name in names
            if name.lower().endswith(suffix.lower()) and not name.startswith('.')
        ]
    return sorted(found)


def other_suffixes(folder: str, suffix: str) -> str:
    """Return a remark on the suffixes of a folder's files, where none has the wanted suffix."""
    counts: Counter[str] = Counter()
    for _, _, names in os.walk(folder):
        counts.update(os.path.splitext(name)[1] for name in names if not name.startswith('.'))
    listed = ', '.join(
        f'{count} {ending or "without a suffix"}' for ending, count in counts.most_common(3)
    )
    return f' (suffix {suffix!r}; the files there: {listed or "none"})'


def _count(number: int, kind: str) -> str:
    return f'{number} {kind}{"" if number == 1 else "s"}'
