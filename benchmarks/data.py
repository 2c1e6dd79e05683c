"""Measures the loading of training samples: samples a second on one core.

    python benchmarks/data.py [--data-root VOC2012] [--images 40] [--rounds 5] [--crop 512]
        [--json FILE] [--quick]

The pipeline is that of MMSegmentation's VOC configs: load image and mask, resize by 0.5 to 2, crop
(with ``cat_max_ratio``), flip, photometric distortion, pack. Compared are, in turn within each
round and on the same images,

* "ours": the view of a step, as a walk's loader asks it: labels of the step, augmentation drawn
  from (seed, step, position);
* "MMSegmentation": its ``PascalVOCDataset`` with this pipeline;
* "decoding": reading and decoding of image and mask alone: no pipeline can be faster;
* "ours, masks kept": the view with ``keep_masks``, once every mask is kept;
* "masks": the share of the masks in decoding.

First every sample of both is compared to the bit, where both draw the same random numbers; if a
sample differs, the benchmark exits with 1. Times are processor time of this process; the least
round counts. Without ``--data-root`` the images are made: 500 x 375, shapes with noise and
gradients, as JPEG (about the size of VOC's images) and as PNG with a palette.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import DefaultScope, init_default_scope
from mmseg.registry import DATASETS as MMSEG_DATASETS
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]

from outcome import write_outcome

from mmseg_cil.datasets.pipeline import seeded
from mmseg_cil.datasets.sampler import SampleKey
from mmseg_cil.registry import DATASETS
from mmseg_cil.utils.cli import run_tool

#: Width and height of most of VOC's images.
SIZE = (500, 375)
LIST = 'ImageSets/Segmentation/train.txt'


def draw_image(rng: np.random.Generator, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw an image ``(375, 500, 3)`` uint8 and its mask ``(375, 500)`` with void borders."""
    width, height = SIZE
    coarse = rng.uniform(0, 255, (6, 8, 3)).astype(np.float32)
    image = cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 5))):
        centre = int(rng.integers(width)), int(rng.integers(height))
        axes = int(rng.integers(25, 160)), int(rng.integers(25, 140))
        angle, label = float(rng.uniform(0, 180)), int(rng.integers(1, classes))
        shape = np.zeros((height, width), np.uint8)
        cv2.ellipse(shape, centre, axes, angle, 0, 360, 1, -1)
        image[shape > 0] = rng.uniform(0, 255, 3) + 0.3 * (image[shape > 0] - 128)
        mask[shape > 0] = label
        cv2.ellipse(mask, centre, axes, angle, 0, 360, 255, 4)
    texture = cv2.GaussianBlur(rng.normal(0, 60, image.shape).astype(np.float32), (0, 0), 1.0)
    return np.clip(image + texture, 0, 255).astype(np.uint8), mask


def make_data(root: Path, count: int) -> Path:
    """Write images and masks in VOC's layout, and return the folder."""
    rng = np.random.default_rng(0)
    folders = [
        root / name for name in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation')
    ]
    for folder in folders:
        folder.mkdir(parents=True)
    names = [f'made_{number:04d}' for number in range(count)]
    palette = rng.integers(0, 256, 768).astype(np.uint8).tolist()
    for name in names:
        image, mask = draw_image(rng, 21)
        Image.fromarray(image).save(folders[0] / f'{name}.jpg', quality=92)
        picture = Image.fromarray(mask, mode='P')
        picture.putpalette(palette)
        picture.save(folders[1] / f'{name}.png')
    (root / LIST).write_text('\n'.join(names) + '\n')
    return root


def pipeline(crop: int) -> list[dict[str, Any]]:
    """Return MMSegmentation's training pipeline for VOC."""
    return [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
        dict(type='RandomCrop', crop_size=(crop, crop), cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'),
        dict(type='PackSegInputs'),
    ]


def open_datasets(root: Path, crop: int, few: int) -> tuple[Any, Any, Any]:
    """Return two views of a walk's only step, and MMSegmentation's dataset, of the same images.

    The second view keeps decoded masks.
    """
    config = dict(
        type='PascalVOCDataset',
        data_root=str(root),
        ann_file=LIST,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        pipeline=pipeline(crop),
        indices=few,
    )
    with tempfile.TemporaryDirectory() as cache:
        settings = dict(
            type='IncrementalDataset',
            dataset=config,
            protocol=dict(name='voc_joint'),
            step=0,
            split='train',
            cache_dirs=[cache],
        )
        views = [DATASETS.build(dict(settings, keep_masks=megabytes)) for megabytes in (0, 2000)]
        for view in views:
            view.full_init()
    with DefaultScope.overwrite_default_scope('mmseg'):
        return views[0], views[1], MMSEG_DATASETS.build(config)


def map_of(labels: torch.Tensor, table: np.ndarray) -> torch.Tensor:
    """Return labels of a step for mask ids, by the plain definition."""
    return torch.from_numpy(table[labels.numpy()].astype(np.int64))


def first_difference(view: Any, plain: Any) -> str:
    """Return in which sample the view differs from MMSegmentation's; empty if in none."""
    paths = [plain.get_data_info(index)['img_path'] for index in range(len(plain))]
    for position, path in enumerate(paths):
        own = next(i for i in range(len(view)) if view.get_data_info(i)['img_path'] == path)
        found = view[SampleKey(own, position)]
        with seeded(view.seed, view.step, position):
            expected = plain[position]
        labels, table = expected['data_samples'].gt_sem_seg.data, view.pipeline.transforms[-2].table
        mapped = map_of(labels, table)
        if not torch.equal(found['inputs'], expected['inputs']):
            return f'{path}: the images differ'
        if not torch.equal(found['data_samples'].gt_sem_seg.data.long(), mapped):
            return f'{path}: the labels differ'
    return ''


def decode_image(info: dict[str, Any]) -> None:
    """Read and decode an image as ``LoadImageFromFile`` does."""
    content = np.frombuffer(Path(info['img_path']).read_bytes(), np.uint8)
    assert cv2.imdecode(content, cv2.IMREAD_COLOR) is not None


def decode_mask(info: dict[str, Any]) -> None:
    """Read and decode a mask as ``LoadAnnotations`` does, with Pillow."""
    with Image.open(info['seg_map_path']) as picture:
        np.asarray(picture)


def contestants(view: Any, keeping: Any, plain: Any) -> dict[str, Callable[[int], Any]]:
    """Return what is timed, as functions of the number of a sample."""
    infos = [plain.get_data_info(index) for index in range(len(plain))]

    def decoded(index: int) -> None:
        decode_image(infos[index])
        decode_mask(infos[index])

    return {
        'ours': lambda index: view[SampleKey(index, index)],
        'ours, masks kept': lambda index: keeping[SampleKey(index, index)],
        'MMSegmentation': lambda index: plain[index],
        'decoding': decoded,
        'masks': lambda index: decode_mask(infos[index]),
    }


def measure(
    timed: dict[str, Callable[[int], Any]], count: int, rounds: int, view: Any
) -> dict[str, list[float]]:
    """Return the seconds of processor time of all samples, by contestant and round.

    MMSegmentation's samples draw, outside the time that counts, from the seeds that ours have, so
    that both resize and crop alike.
    """
    found: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        used = dict.fromkeys(timed, 0.0)
        for index in range(count):
            for name, load in timed.items():
                if name == 'MMSegmentation':
                    with seeded(view.seed, view.step, index):
                        begun = time.process_time()
                        load(index)
                        used[name] += time.process_time() - begun
                else:
                    begun = time.process_time()
                    load(index)
                    used[name] += time.process_time() - begun
        for name, seconds in used.items():
            found[name].append(seconds)
    return found


def report(found: dict[str, list[float]], count: int) -> list[dict[str, Any]]:
    """Print the table, and return its rows."""
    least = {name: min(seconds) / count for name, seconds in found.items()}
    print(f'{"":<16}{"ms":>9}{"samples/s":>11}{"ratio":>8}')
    rows: list[dict[str, Any]] = []
    for name, seconds in least.items():
        ratio = least['MMSegmentation'] / seconds
        rows.append(dict(name=name, seconds=seconds, samples_a_second=1 / seconds, ratio=ratio))
        print(f'{name:<16}{1000 * seconds:>9.2f}{1 / seconds:>11.1f}{ratio:>8.3f}')
    pairs = sorted(b / a for a, b in zip(found['ours'], found['MMSegmentation'], strict=True))
    print(
        f"ratio: speed relative to MMSegmentation's; ours by round: {pairs[0]:.3f} to "
        f'{pairs[-1]:.3f}. Kept masks save '
        f'{100 * (1 - least["ours, masks kept"] / least["ours"]):.1f} % of a sample.'
    )
    return rows


def main() -> None:
    """Read the command line and run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data-root', type=Path, help='of VOC 2012; default: images are made')
    parser.add_argument('--images', type=int, default=40)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--crop', type=int, default=512)
    parser.add_argument('--json', type=Path, help='file for the numbers')
    parser.add_argument('--quick', action='store_true', help='few images: only that it runs')
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.images, arguments.rounds, arguments.crop = 3, 1, 64
    # One core: OpenCV would use others as well.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    init_default_scope('mmseg_cil')
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.data_root or make_data(Path(folder) / 'VOC', arguments.images)
        view, keeping, plain = open_datasets(root, arguments.crop, arguments.images)
        # The second pass over a view that keeps masks has them from memory.
        for compared in (view, keeping, keeping):
            different = first_difference(compared, plain)
            if different:
                sys.exit(different)
        timed = contestants(view, keeping, plain)
        found = measure(timed, len(plain), arguments.rounds, view)
        print(f'{len(plain)} images of {root if arguments.data_root else "500 x 375"}, one core')
        rows = report(found, len(plain))
    if arguments.json:
        write_outcome(arguments.json, rows)


if __name__ == '__main__':
    run_tool(main)
