"""Images that are damaged, turned, of other kinds, or named oddly."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from fuzzing.world import ANY, REFUSED, TOLD, WORKS, Case, World, mutation


def rename_suffix(world: World, suffix: str) -> None:
    """Let both datasets look for another suffix of images."""
    for split in ('train', 'test'):
        world.set(f'{split}_dataloader.dataset.img_suffix', suffix)


@mutation
def damaged(world: World) -> Case:
    """Damage one image: empty, cut off, broken inside, or no image at all."""
    path = world.a_picture('images')
    content = path.read_bytes()
    kind = world.rng.choice(['empty', 'cut', 'text', 'inside', 'zeros', 'folder'])
    if kind == 'empty':
        path.write_bytes(b'')
    elif kind == 'cut':
        path.write_bytes(content[: world.rng.randrange(10, len(content) // 2)])
    elif kind == 'text':
        path.write_text('this is no image')
    elif kind == 'inside':
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes(40) + content[middle + 40 :])
    elif kind == 'zeros':
        path.write_bytes(bytes(len(content)))
    else:
        path.unlink()
        path.mkdir()
    # libpng reads over some damage, and the pixels that it gives are the ones trained on.
    return Case(ANY if kind == 'inside' else REFUSED, (path.stem,))


@mutation
def damaged_jpeg(world: World) -> Case:
    """Cut a JPEG off, or break it inside while its trailer is whole."""
    for path in world.pictures('images'):
        Image.open(path).save(path.with_suffix('.jpg'), quality=95)
        path.unlink()
    rename_suffix(world, '.jpg')
    path = world.a_picture('images')
    content = path.read_bytes()
    if world.rng.random() < 0.5:
        path.write_bytes(content[: world.rng.randrange(30, 200)])
        return Case(REFUSED, (path.stem,))
    path.write_bytes(content[:2] + bytes(len(content) - 4) + content[-2:])
    return Case(REFUSED, (path.stem,))


@mutation
def missing(world: World) -> Case:
    """Delete one image of a list."""
    path = world.a_picture('images')
    path.unlink()
    return Case(REFUSED, (path.stem,))


@mutation
def turned_by_exif(world: World) -> Case:
    """Let EXIF turn the images by a quarter, with masks that it does not turn."""
    exif = Image.Exif()
    exif[0x0112] = world.rng.choice([5, 6, 7, 8])
    for path in world.pictures('images'):
        keep = world.rng.random() < 0.3 and not path.name.endswith('000.png')
        image = Image.open(path)
        image.save(path.with_suffix('.jpg'), quality=95, **({} if keep else {'exif': exif}))
        path.unlink()
    rename_suffix(world, '.jpg')
    if world.rng.random() < 0.5:
        world.get('train_dataloader.dataset.pipeline').insert(
            2, {'type': 'Resize', 'scale': (48, 40), 'keep_ratio': False}
        )
    return Case(REFUSED, ('exif', 'size', 'turn'))


@mutation
def upside_down_by_exif(world: World) -> Case:
    """Let EXIF turn or mirror the images without a change of their size."""
    exif = Image.Exif()
    exif[0x0112] = world.rng.choice([2, 3, 4])
    for path in world.pictures('images'):
        Image.open(path).save(path.with_suffix('.jpg'), quality=95, exif=exif)
        path.unlink()
    rename_suffix(world, '.jpg')
    return Case(TOLD, ('exif', 'orientation'), ('exif', 'orientation'))


@mutation
def of_another_mode(world: World) -> Case:
    """Write one image in grey, with a palette, with alpha, in CMYK or in 16 bits."""
    path = world.a_picture('images')
    image = Image.open(path)
    mode = world.rng.choice(['L', 'P', 'RGBA', 'LA', '1'])
    image.convert(mode).save(path)
    return Case(WORKS)


@mutation
def of_many_sizes(world: World) -> Case:
    """Write images and masks of different, odd sizes."""
    for path in world.pictures('images'):
        size = (world.rng.randrange(25, 60), world.rng.randrange(25, 60))
        mask = world.data / 'masks' / path.name
        Image.open(path).resize(size).save(path)
        Image.open(mask).resize(size, Image.Resampling.NEAREST).save(mask)
    world.set('test_dataloader.batch_size', world.rng.choice([1, 2, 3]))
    return Case(ANY)


@mutation
def smaller_than_the_crop(world: World) -> Case:
    """Write some training images that are smaller than the crop."""
    for path in world.pictures('images', 'train')[: world.rng.randrange(1, 16)]:
        size = (world.rng.randrange(3, 20), world.rng.randrange(3, 20))
        mask = world.data / 'masks' / path.name
        Image.open(path).resize(size).save(path)
        Image.open(mask).resize(size, Image.Resampling.NEAREST).save(mask)
    return Case(ANY)


@mutation
def named_oddly(world: World) -> Case:
    """Give images names with blanks, signs and letters of other alphabets."""
    odd = world.rng.choice(
        [
            'a b',
            'ü.v1',
            'x,y',
            '街景(1)',
            'p[0]',
            '100%',
            '#5',
            '1+2',
            '%d',
            "it's",
            '{0}',
            '$HOME',
            'a;b',
            '~x',
            '!',
            '&',
            '@2x',
            'é' * 60,
            '..x',
            'a__b',
            '.hidden',
            '-dash',
            'x\u00a0y',
            'ends.',
        ]
    )
    for split in ('train', 'val'):
        names = []
        for i, path in enumerate(world.pictures('images', split)):
            name = f'{odd}_{split}_{i}' if world.rng.random() < 0.8 else path.stem
            path.rename(path.with_name(f'{name}.png'))
            mask = world.data / 'masks' / path.name
            mask.rename(mask.with_name(f'{name}.png'))
            names.append(name)
        (world.data / f'lists/{split}.txt').write_text('\n'.join(names) + '\n', encoding='utf-8')
    return Case(WORKS)


@mutation
def in_a_folder_named_oddly(world: World) -> Case:
    """Move the data into a folder whose name has signs that patterns give a meaning."""
    name = world.rng.choice(
        ['my data', 'data[1]', 'da*ta', 'data?', 'daten_ü', '100%', 'a,b', "it's", 'x{y}', '数据']
    )
    target = world.folder / name
    shutil.move(world.data, target)
    for split in ('train', 'test'):
        world.set(f'{split}_dataloader.dataset.data_root', str(target))
    return Case(WORKS)


@mutation
def in_sub_folders(world: World) -> Case:
    """Put images into sub-folders by a slash in their names."""
    for split in ('train', 'val'):
        names = []
        for i, path in enumerate(world.pictures('images', split)):
            name = f'{split}/part{i % 3}/{path.stem}'
            for folder in ('images', 'masks'):
                target = world.data / folder / f'{name}.png'
                target.parent.mkdir(parents=True, exist_ok=True)
                (world.data / folder / path.name).rename(target)
            names.append(name)
        (world.data / f'lists/{split}.txt').write_text('\n'.join(names) + '\n')
    return Case(WORKS)


@mutation
def with_another_suffix(world: World) -> Case:
    """Let the config name a suffix that the files do not have, or have in other letters."""
    suffix = world.rng.choice(['.jpg', '.PNG', '.tif', 'png', '.jpeg', ''])
    rename_suffix(world, suffix)
    return Case(ANY if suffix in ('.PNG', 'png', '') else REFUSED, (suffix,))


@mutation
def of_five_bands(world: World) -> Case:
    """Load arrays of five bands by a loader of the user's own, for a network of three or five."""
    bands = world.rng.choice([3, 5])
    for path in world.pictures('images'):
        array = np.asarray(Image.open(path)).astype(np.float32)
        np.save(path.with_suffix('.npy'), np.concatenate([array, array[..., :2]], 2))
        path.unlink()
    (world.folder / 'own_loader.py').write_text(
        'import numpy as np\n'
        'from mmcv.transforms import BaseTransform\n'
        'from mmseg.registry import TRANSFORMS\n\n\n'
        '@TRANSFORMS.register_module(force=True)\n'
        'class LoadNpy(BaseTransform):\n'
        '    def transform(self, results):\n'
        '        img = np.load(results["img_path"])\n'
        '        results.update(img=img, img_shape=img.shape[:2], ori_shape=img.shape[:2])\n'
        '        return results\n'
    )
    rename_suffix(world, '.npy')
    for split in ('train', 'test'):
        world.get(f'{split}_dataloader.dataset.pipeline')[0] = {'type': 'LoadNpy'}
    world.cfg['custom_imports'] = {'imports': ['own_loader'], 'allow_failed_imports': False}
    world.set('model.backbone.in_channels', bands)
    world.set('model.data_preprocessor.mean', [110.0])
    world.set('model.data_preprocessor.std', [60.0])
    world.set('model.data_preprocessor.bgr_to_rgb', False)
    return Case(WORKS if bands == 5 else REFUSED, check=_has_report_or_not)


def _has_report_or_not(folder: Path) -> str | None:
    done = (folder / 'w/step_01/checkpoint.pth').is_file()
    begun = (folder / 'w/step_00/checkpoint.pth').is_file()
    return 'the walk broke after its first step' if begun and not done else None
