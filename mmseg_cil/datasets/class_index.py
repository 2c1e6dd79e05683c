"""The class index: the ids that occur in each mask, from one pass and cached in a file.

Every protocol, class order and setting is then an operation on a bit matrix.
The same pass finds images and masks that are missing, broken or do not fit
each other, before any training starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from mmengine.logging import print_log

from mmseg_cil.datasets.file_checks import (
    DIGEST_BYTES,
    MASK_MODES,
    FileProblem,
    check_same_size,
    partial_digest,
    read_image,
    read_mask,
)
from mmseg_cil.datasets.jpeg_damage import damaged_jpegs
from mmseg_cil.errors import InputError
from mmseg_cil.utils.atomic import atomic_write

Item = tuple[str, str]

# Changes whenever the content of the file changes, or the checks that a row stands for.
_FORMAT = 3
_CHUNK = 32
# New images are all decoded if they have at most this many bytes in all. From a larger dataset an
# evenly spread part is decoded, because decoding all of it would take as long as an epoch.
_DECODED_BYTES = 32 * 2**20
_LISTED = 10


@dataclass
class ClassIndex:
    """The mask ids that occur in each image.

    Attributes:
        names: N image names.
        presence: bool (N, 256), by raw mask id as the file holds it (before
            any ``reduce_zero_label`` or ``label_map``).
        mask_digests: uint8 (N, 16): BLAKE2b of each mask file's bytes.
        image_bytes: int64 (N,): size of each image file.
        image_digests: uint8 (N, 16): digest of parts of each image file's bytes, see
            :func:`~mmseg_cil.datasets.file_checks.partial_digest`.
        headers: int32 (N, 6), from the headers of the files: width, height
            (0 where Pillow cannot tell) and EXIF orientation (0 where there is
            none) of the image; width and height of the mask, and the place of
            its mode in :data:`~mmseg_cil.datasets.file_checks.MASK_MODES`.
    """

    names: list[str]
    presence: np.ndarray
    mask_digests: np.ndarray = field(default_factory=lambda: _Rows.empty(0).digest)
    image_bytes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    image_digests: np.ndarray = field(default_factory=lambda: _Rows.empty(0).image_digest)
    headers: np.ndarray = field(default_factory=lambda: _Rows.empty(0).headers)


@dataclass
class _Rows:
    """The rows of the class index, one for each item; a row counts only where ``valid``."""

    valid: np.ndarray  # bool (N,)
    stats: np.ndarray  # int64 (N, 4): size, mtime_ns of image, then of mask
    digest: np.ndarray  # uint8 (N, 16): BLAKE2b of the mask's bytes
    image_digest: np.ndarray  # uint8 (N, 16), as in ClassIndex
    presence: np.ndarray  # uint8 (N, 32): packed bits
    headers: np.ndarray  # int32 (N, 6), as in ClassIndex

    @classmethod
    def empty(cls, count: int) -> _Rows:
        return cls(
            np.zeros(count, bool),
            np.zeros((count, 4), np.int64),
            np.zeros((count, DIGEST_BYTES), np.uint8),
            np.zeros((count, DIGEST_BYTES), np.uint8),
            np.zeros((count, 32), np.uint8),
            np.zeros((count, 6), np.int32),
        )


def load_or_build_index(
    items: Sequence[Item],
    names: Sequence[str],
    cache_dirs: Sequence[str | os.PathLike[str]] = (),
    workers: int | None = None,
    log: Callable[[str], object] | None = None,
) -> ClassIndex:
    """Return the mask ids that occur in every image, from a valid cache where there is one.

    A cached entry is used if size and modification time of image and mask are
    unchanged. If only these changed, the mask's bytes are hashed,
    and an equal hash saves the decoding. All other files are checked and
    decoded anew. (Comparing size and time before the content is a choice: hashing
    all masks at every start would cost nearly as much as decoding them.)

    Several processes may call this function at once. Where the file system
    supports locks, one process builds the index and the others wait for its file;
    elsewhere every process builds. The file is replaced atomically either way.

    Args:
        items: N pairs of image path and mask path.
        names: N names, passed on to the result.
        cache_dirs: Folders that may hold the cache, best first. All are read;
            the first that can be written gets the new file. If none can be written,
            no cache is kept.
        workers: Number of threads. None: the number of processors, 16 at most (more
            threads contend for the interpreter; give more where the files come over a
            slow network).
        log: Function that is called with a line about the work done. None: MMEngine's
            logger.

    Returns:
        The index, in the order of ``items``.

    Raises:
        InputError: Files are missing, broken, not single-channel 8-bit masks,
            saved with loss, or of unequal size; the message lists the first ten
            and the count.
    """
    if len(items) != len(names):
        raise ValueError(f'{len(items)} items but {len(names)} names')
    say = log or (lambda text: print_log(text, logger='current'))
    caches = [_CacheFile.of(Path(folder), items) for folder in cache_dirs]
    rows = _rows_of(items, caches, workers or min(16, os.cpu_count() or 1), say)
    return ClassIndex(
        list(names),
        np.unpackbits(rows.presence, axis=1).astype(bool),
        rows.digest,
        rows.stats[:, 0],
        rows.image_digest,
        rows.headers,
    )


def _rows_of(
    items: Sequence[Item], files: Sequence[_CacheFile], workers: int, say: Callable[[str], object]
) -> _Rows:
    """Return the rows of all items, from the caches or from the files."""
    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        stats = np.array(_in_chunks(pool, _stats_of, items), np.int64).reshape(-1, 4)
        rows = _reuse(stats, [file.load(say) for file in files])
        if not rows.valid.all():
            rows, decoded = _complete(pool, items, stats, files, say)
            spent = time.perf_counter() - started
            say(f'class index of {len(items)} masks: {decoded} decoded in {spent:.1f} s')
    return rows


def _complete(
    pool: ThreadPoolExecutor,
    items: Sequence[Item],
    stats: np.ndarray,
    files: Sequence[_CacheFile],
    say: Callable[[str], object],
) -> tuple[_Rows, int]:
    """Check and decode the items without a valid cache entry, and write the cache.

    The rows of sound items are written even if other items are broken, so that the
    next start, with the broken files mended, does not begin again.
    """
    target = next((file for file in files if _is_writable(file.path.parent)), None)
    if files and target is None:
        say('class index: no cache folder can be written; the masks are read at every start')
    with target.locked() if target else contextlib.nullcontext():
        caches = [file.load(say) for file in files]
        rows = _reuse(stats, caches)
        todo = np.flatnonzero(~rows.valid).tolist()
        sample = _to_decode(todo, stats[:, 0])

        def examine(chunk: Sequence[int]) -> list[_Found | str]:
            return [_examine(items[row], _digests(caches, row), row in sample) for row in chunk]

        results = _without_damaged(items, todo, _in_chunks(pool, examine, todo), sample)
        problems = []
        for row, found in zip(todo, results, strict=True):
            if isinstance(found, str):
                problems.append(found)
                continue
            rows.valid[row] = True
            rows.stats[row] = stats[row]
            rows.digest[row] = np.frombuffer(found.digest, np.uint8)
            rows.image_digest[row] = np.frombuffer(found.image_digest, np.uint8)
            rows.presence[row] = found.presence
            rows.headers[row] = found.header
        if target and rows.valid[todo].any():
            target.save(rows, say)
    if problems:
        raise InputError(_summary(problems, len(items)))
    return rows, sum(found.decoded for found in results if isinstance(found, _Found))


def _to_decode(todo: Sequence[int], image_bytes: np.ndarray) -> frozenset[int]:
    """Return the rows whose images are decoded: all rows, or evenly spread ones of many."""
    every = -(-int(image_bytes[todo].clip(0).sum()) // _DECODED_BYTES)
    return frozenset(todo[:: max(1, every)])


def _without_damaged(
    items: Sequence[Item],
    todo: Sequence[int],
    results: Sequence[_Found | str],
    sample: frozenset[int],
) -> list[_Found | str]:
    """Return the results, with decoded images whose pixels are damaged turned into problems."""
    sound = [
        items[row][0]
        for row, found in zip(todo, results, strict=True)
        if row in sample and isinstance(found, _Found)
    ]
    damaged = set(damaged_jpegs(sound))
    return [
        f'truncated or corrupt image: {items[row][0]} (its pixels are damaged)'
        if isinstance(found, _Found) and items[row][0] in damaged
        else found
        for row, found in zip(todo, results, strict=True)
    ]


@dataclass(frozen=True)
class _Found:
    digest: bytes
    image_digest: bytes
    presence: np.ndarray
    header: tuple[int, ...]
    decoded: bool


def _examine(item: Item, known: dict[bytes, np.ndarray], decode_image: bool) -> _Found | str:
    image_path, mask_path = item
    try:
        try:
            content = Path(mask_path).read_bytes()
        except FileNotFoundError:
            if not os.path.exists(image_path):
                raise FileProblem(f'missing image: {image_path} (and its mask)') from None
            raise FileProblem(f'image without mask: {image_path} (no {mask_path})') from None
        except OSError as error:
            raise FileProblem(f'unreadable mask: {mask_path} ({error.strerror})') from None
        digest = hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
        mask = read_mask(mask_path, content, decode=digest not in known)
        image = read_image(image_path, decode_image)
        check_same_size(image_path, image, mask_path, mask)
        header = (
            *(image.size or (0, 0)),
            image.orientation,
            *mask.size,
            MASK_MODES.index(mask.mode),
        )
        image_digest = partial_digest(image_path)
        if mask.presence is None:
            return _Found(digest, image_digest, known[digest], header, False)
        return _Found(digest, image_digest, np.packbits(mask.presence), header, True)
    except FileProblem as problem:
        return str(problem)


def _digests(caches: Iterable[_Rows | None], row: int) -> dict[bytes, np.ndarray]:
    return {
        cache.digest[row].tobytes(): cache.presence[row]
        for cache in caches
        if cache is not None and cache.valid[row]
    }


def _reuse(stats: np.ndarray, caches: Iterable[_Rows | None]) -> _Rows:
    rows = _Rows.empty(len(stats))
    for cache in caches:
        if cache is None:
            continue
        fits = ~rows.valid & cache.valid & (cache.stats == stats).all(axis=1)
        rows.valid |= fits
        for name in ('stats', 'digest', 'image_digest', 'presence', 'headers'):
            getattr(rows, name)[fits] = getattr(cache, name)[fits]
    return rows


def _stats_of(items: Sequence[Item]) -> list[tuple[int, int, int, int]]:
    return [(*_stat(image), *_stat(mask)) for image, mask in items]


def _stat(path: str) -> tuple[int, int]:
    try:
        stat = os.stat(path)
    except OSError:
        # No cached row has this size, so the file is examined, and reported.
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _in_chunks(pool: ThreadPoolExecutor, task: Callable, things: Sequence) -> list:
    """Run a task over slices of a list; single calls would cost more than most tasks."""
    chunks = [things[start : start + _CHUNK] for start in range(0, len(things), _CHUNK)]
    return [result for results in pool.map(task, chunks) for result in results]


def _summary(problems: Sequence[str], total: int) -> str:
    lines = [f'{len(problems)} of {total} images cannot be used:']
    lines += [f'  {problem}' for problem in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f'  ... and {len(problems) - _LISTED} more')
    lines.append('Restore these files, or take their names out of the list of images (ann_file).')
    return '\n'.join(lines)


def _is_writable(folder: Path) -> bool:
    # Permission bits do not tell: the file system may be read-only or the user root.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@dataclass(frozen=True)
class _CacheFile:
    """One ``index_*.npz``; its name is a hash of the list of files."""

    path: Path
    key: str
    count: int

    @classmethod
    def of(cls, folder: Path, items: Sequence[Item]) -> _CacheFile:
        """Name the cache of a list; paths below the folder's parent enter as relative paths.

        So a cache inside a dataset stays valid when the dataset is moved.
        """
        root = os.path.join(os.path.abspath(folder.parent), '')
        digest = hashlib.blake2b(f'format {_FORMAT}\n'.encode(), digest_size=DIGEST_BYTES)
        for pair in items:
            for path in map(os.path.abspath, pair):
                digest.update(os.fsencode(path.removeprefix(root)) + b'\0')
        key = digest.hexdigest()
        return cls(folder / f'index_{key[:16]}.npz', key, len(items))

    def load(self, say: Callable[[str], object]) -> _Rows | None:
        """Read the cache; return None where the file is missing or not reliable."""
        try:
            # The zip container holds a checksum of each array, verified on reading.
            with np.load(self.path, allow_pickle=False) as content:
                if str(content['key']) != self.key:
                    raise ValueError('it belongs to another list of files')
                rows = _Rows(**{name: content[name] for name in _Rows.__dataclass_fields__})
        except FileNotFoundError:
            return None
        except Exception as error:
            say(f'WARNING: class index {self.path} cannot be used ({error}); it is built anew')
            return None
        blank = _Rows.empty(self.count)
        for name, value in vars(blank).items():
            found = getattr(rows, name)
            if found.shape != value.shape or found.dtype != value.dtype:
                say(f'WARNING: class index {self.path} has a wrong {name}; it is built anew')
                return None
        return rows

    def save(self, rows: _Rows, say: Callable[[str], object]) -> None:
        """Replace the file; only warn if the file cannot be written."""

        def write(file: BinaryIO) -> None:
            np.savez_compressed(file, key=np.array(self.key), **vars(rows))

        try:
            atomic_write(self.path, write)
        except OSError as error:
            say(f'WARNING: class index {self.path} could not be written ({error})')

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that lets one process build while others wait.

        The system drops the lock when its holder dies. Where locks are not available
        (some network file systems) every process builds, which is only slower.
        """
        with open(self.path.with_suffix('.lock'), 'ab') as file:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
