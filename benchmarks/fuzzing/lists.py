"""Lists of images in every form that editors and scripts give them."""

from __future__ import annotations

from fuzzing.world import ANY, REFUSED, TOLD, WORKS, Case, World, mutation


def _names(world: World, split: str) -> list[str]:
    return (world.data / f'lists/{split}.txt').read_text().split()


@mutation
def of_another_encoding(world: World) -> Case:
    """Write a list as Windows editors do: byte order mark, CRLF, UTF-16."""
    for split in world.rng.choice([('train',), ('val',), ('train', 'val')]):
        encoding = world.rng.choice(['utf-8-sig', 'utf-16', 'utf-8', 'latin-1'])
        end = world.rng.choice(['\r\n', '\n', '\r\n\r\n', ' \n', '\t\n'])
        (world.data / f'lists/{split}.txt').write_bytes(
            (end.join(_names(world, split)) + end).encode(encoding)
        )
    return Case(WORKS, check=_all_images)


def _all_images(folder: object) -> str | None:
    import json
    from pathlib import Path

    images = json.loads((Path(str(folder)) / 'w/journal.json').read_text())['images']
    expected = {'train': [13, 16], 'test': [7, 8]}
    # The counts of the whole lists, as the data set of the fuzzer has them.
    return None if images['test'][-1] == expected['test'][-1] else f'images are missing: {images}'


@mutation
def that_names_nothing(world: World) -> Case:
    """Empty a list, or name a file that is not there."""
    split = world.rng.choice(['train', 'val'])
    path = world.data / f'lists/{split}.txt'
    kind = world.rng.choice(['empty', 'blank', 'unknown', 'missing', 'binary'])
    if kind == 'empty':
        path.write_text('')
    elif kind == 'blank':
        path.write_text('\n\n  \n')
    elif kind == 'unknown':
        path.write_text('\n'.join([*_names(world, split), 'nobody_has_seen_me']) + '\n')
    elif kind == 'missing':
        path.unlink()
    else:
        path.write_bytes(bytes(world.rng.randrange(256) for _ in range(400)))
    return Case(REFUSED, ('list', 'image', path.name))


@mutation
def that_is_a_folder(world: World) -> Case:
    """Name a folder as the list."""
    split = world.rng.choice(['train', 'test'])
    world.set(f'{split}_dataloader.dataset.ann_file', world.rng.choice(['lists', 'images', '.']))
    return Case(REFUSED, ('folder', 'ann_file'))


@mutation
def that_share_images(world: World) -> Case:
    """List test images among the training images."""
    names = _names(world, 'train')
    shared = world.rng.sample(_names(world, 'val'), world.rng.randrange(1, 8))
    (world.data / 'lists/train.txt').write_text('\n'.join([*names, *shared]) + '\n')
    return Case(TOLD, ('test',), ('both', 'shared', 'test image', 'share'))


@mutation
def with_names_twice(world: World) -> Case:
    """Repeat some names in a list."""
    split = world.rng.choice(['train', 'val'])
    names = _names(world, split)
    names += world.rng.sample(names, world.rng.randrange(1, 5))
    (world.data / f'lists/{split}.txt').write_text('\n'.join(names) + '\n')
    return Case(TOLD, ('twice',), ('twice', 'more than once', 'repeat'))


@mutation
def with_suffixes(world: World) -> Case:
    """Write the suffix of the images into the list."""
    for split in ('train', 'val'):
        names = [f'{name}.png' for name in _names(world, split)]
        (world.data / f'lists/{split}.txt').write_text('\n'.join(names) + '\n')
    return Case(ANY)


@mutation
def with_other_columns(world: World) -> Case:
    """Write image and mask into one line, as other code bases do."""
    names = [f'images/{name}.png masks/{name}.png' for name in _names(world, 'train')]
    (world.data / 'lists/train.txt').write_text('\n'.join(names) + '\n')
    return Case(REFUSED)


@mutation
def with_backslashes(world: World) -> Case:
    """Write paths with Windows separators."""
    (world.data / 'images/sub').mkdir()
    (world.data / 'masks/sub').mkdir()
    names = []
    for name in _names(world, 'train'):
        for folder in ('images', 'masks'):
            (world.data / folder / f'{name}.png').rename(world.data / folder / f'sub/{name}.png')
        names.append(f'sub\\{name}')
    (world.data / 'lists/train.txt').write_text('\n'.join(names) + '\n')
    return Case(ANY)


@mutation
def of_a_domain(world: World) -> Case:
    """Give the list or pattern of a domain in an unusual form."""
    names = [*_names(world, 'train'), *_names(world, 'val')]
    first = [name for i, name in enumerate(names) if i % 2 == 0]
    second = [name for i, name in enumerate(names) if i % 2]
    encoding = world.rng.choice(['utf-8-sig', 'utf-8', 'utf-16'])
    end = world.rng.choice(['\r\n', '\n'])
    for number, group in enumerate((first, second)):
        (world.folder / f'd{number}.txt').write_bytes(end.join(group).encode(encoding))
    world.cfg['protocol'] = {
        'name': 'domains',
        'dataset': 'tiny',
        'domains': [
            {'name': 'a', 'list_file': str(world.folder / 'd0.txt')},
            {'name': 'b', 'list_file': str(world.folder / 'd1.txt')},
        ],
    }
    world.set('method', {'name': 'finetune'})
    return Case(WORKS, check=_all_images)


@mutation
def of_a_domain_that_fits_nothing(world: World) -> Case:
    """Give a domain a pattern, or a list, that no image or every image belongs to."""
    kind = world.rng.choice(['nothing', 'overlap', 'rest', 'missing', 'both'])
    domains: list[dict[str, object]] = {
        'nothing': [{'name': 'a', 'pattern': '*'}, {'name': 'b', 'pattern': 'xyz_*'}],
        'overlap': [{'name': 'a', 'pattern': '*_00*'}, {'name': 'b', 'pattern': '*'}],
        'rest': [{'name': 'a', 'pattern': '*_000'}, {'name': 'b', 'pattern': '*_001'}],
        'missing': [{'name': 'a', 'pattern': '*'}, {'name': 'b', 'list_file': 'nowhere.txt'}],
        'both': [{'name': 'a', 'pattern': '*', 'list_file': 'x.txt'}, {'name': 'b'}],
    }[kind]
    world.cfg['protocol'] = {'name': 'domains', 'dataset': 'tiny', 'domains': domains}
    world.set('method', {'name': 'finetune'})
    return Case(REFUSED, ('domain', 'step 1'))
