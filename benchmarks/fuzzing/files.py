"""Files of a walk that were cut off, changed, exchanged or poisoned."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch

from fuzzing.world import ANY, REFUSED, TOLD, WORKS, Case, World, mutation

#: Touched by a weights file that gets its code executed.
MARKER = 'POISONED'


class _Poison:
    """Pickles into a command that makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f'touch {self.marker}',)


def _not_executed(folder: Path) -> str | None:
    return 'a weights file executed code' if (folder / MARKER).exists() else None


def _poison(world: World, path: Path, content: Any) -> None:
    poisoned = {**content, 'extra': _Poison(world.folder / MARKER)}
    if world.rng.random() < 0.5:
        torch.save(poisoned, path)
    else:
        path.write_bytes(pickle.dumps(poisoned))


@mutation
def poisoned_weights_to_begin_with(world: World) -> Case:
    """Name a poisoned file as load_from or as pre-trained weights."""
    path = world.folder / 'weights.pth'
    _poison(world, path, {'state_dict': {}})
    name = world.rng.choice(
        [
            'load_from',
            'model.backbone.init_cfg',
            'model.init_cfg',
            'model.pretrained',
            'model.backbone.pretrained',
        ]
    )
    world.set(
        name,
        {'type': 'Pretrained', 'checkpoint': str(path)} if name.endswith('init_cfg') else str(path),
    )
    return Case(REFUSED, ('weights.pth',), check=_not_executed)


@mutation
def poisoned_walk(world: World) -> Case:
    """Poison a file of weights in a work directory, and its hash in the journal with it."""
    import hashlib

    begun = world.rng.random() < 0.5
    work_dir = world.take_walk('begun' if begun else 'finished')
    names = ['step_00/checkpoint.pth', 'step_00/vdfd.pth'] + (
        ['step_01/resume.pth'] if begun else ['step_01/checkpoint.pth']
    )
    path = work_dir / world.rng.choice(names)
    content = torch.load(path, weights_only=False)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    _poison(world, path, content if isinstance(content, dict) else {'state_dict': {}})
    after = hashlib.sha256(path.read_bytes()).hexdigest()
    for text in (work_dir / 'journal.json', *work_dir.glob('**/*.sha256')):
        text.write_text(text.read_text().replace(before, after))
    if not begun:
        world.argv = ['test', 'w']
    # A finished walk reads vdfd.pth no more.
    expected = ANY if path.name == 'vdfd.pth' else REFUSED
    return Case(expected, (path.name,), check=_not_executed)


@mutation
def poisoned_config_copy(world: World) -> Case:
    """Put code into the config that a work directory holds, and test or compare it."""
    work_dir = world.take_walk('finished')
    for path in work_dir.glob('*.py'):
        path.write_text(
            f'import os\nos.system("touch {world.folder / MARKER}")\n' + path.read_text()
        )
    world.argv = world.rng.choice(
        [
            ['test', 'w'],
            ['report', 'w'],
            ['report', 'w', '--vary', 'method.name'],
            ['train', 'config.py', '--work-dir', 'v', '--start-from', 'w', '--no-report'],
        ]
    )
    return Case(ANY, check=_not_executed)


@mutation
def cut_off(world: World) -> Case:
    """Cut off or garble a file of a walk that goes on."""
    which = world.rng.choice(['begun', 'finished'])
    work_dir = world.take_walk(which)
    files = ['journal.json', 'step_00/checkpoint.pth', 'step_00/vdfd.pth']
    files += ['step_01/resume.pth'] if which == 'begun' else ['step_01/checkpoint.pth']
    path = work_dir / world.rng.choice(files)
    content = path.read_bytes()
    kind = world.rng.choice(['cut', 'empty', 'bit', 'garbage'])
    middle = len(content) // 2
    path.write_bytes(
        {
            'cut': content[:middle],
            'empty': b'',
            'garbage': b'garbage' * 50,
            'bit': content[:middle] + bytes([content[middle] ^ 64]) + content[middle + 1 :],
        }[kind]
    )
    # A flipped bit of the journal may stand in a text that nobody compares, and a finished walk
    # does not read vdfd.pth.
    lenient = (path.name == 'journal.json' and kind == 'bit') or (
        path.name == 'vdfd.pth' and which == 'finished'
    )
    if which == 'finished' and path.name == 'checkpoint.pth':
        # Nothing is left to do that needs it: it is told, and the walk goes on.
        return Case(TOLD, ('checkpoint.pth',), ('checkpoint.pth', 'warning'))
    return Case(ANY if lenient else REFUSED, (path.name,))


@mutation
def scores_changed_by_hand(world: World) -> Case:
    """Change a step's scores, or the table of all, in a finished walk."""
    work_dir = world.take_walk('finished')
    path = work_dir / world.rng.choice(['step_00/metrics.json', 'step_01/metrics.json'])
    if not path.is_file():
        path = work_dir / 'metrics.json'
    kind = world.rng.choice(['figure', 'empty', 'missing'])
    if kind == 'missing':
        path.unlink()
    elif kind == 'empty':
        path.write_text('')
    else:
        path.write_text(path.read_text().replace('0.', '0.9'))
    if world.rng.random() < 0.5:
        world.argv = ['report', 'w']
    return Case(ANY)


@mutation
def exchanged_steps(world: World) -> Case:
    """Exchange the checkpoints of two steps, or put another network's in the place of one."""
    work_dir = world.take_walk('begun')
    path = work_dir / 'step_00/checkpoint.pth'
    assert world.finished is not None
    shutil.copy(world.finished / 'step_01/checkpoint.pth', path)
    return Case(REFUSED, ('checkpoint.pth',))


@mutation
def deleted(world: World) -> Case:
    """Delete a file or a folder of a walk that goes on."""
    which = world.rng.choice(['begun', 'finished'])
    work_dir = world.take_walk(which)
    name = world.rng.choice(
        [
            'step_00',
            'step_00/checkpoint.pth',
            'step_00/vdfd.pth',
            'metrics.json',
            'metrics.csv',
            'step_00/config.py',
            'step_00/metrics.json',
        ]
    )
    path = work_dir / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if name == 'step_00/checkpoint.pth' and which == 'finished':
        return Case(TOLD, ('checkpoint.pth',), ('checkpoint.pth', 'warning'))
    needed = name == 'step_00/checkpoint.pth'
    return Case(REFUSED if needed else ANY, (name.rpartition('/')[2], 'step 0'))


@mutation
def not_finite(world: World) -> Case:
    """Begin with weights of which some are not finite."""
    state = torch.load(world.finished / 'step_00/checkpoint.pth', weights_only=True)['state_dict']
    key = world.rng.choice([name for name in state if state[name].is_floating_point()])
    state[key].view(-1)[0] = world.rng.choice([float('nan'), float('inf')])
    torch.save({'state_dict': state}, world.folder / 'weights.pth')
    world.cfg['load_from'] = str(world.folder / 'weights.pth')
    return Case(REFUSED, ('finite', 'weights.pth'))


@mutation
def of_another_network(world: World) -> Case:
    """Begin with weights of which little fits the network."""
    state = torch.load(world.finished / 'step_00/checkpoint.pth', weights_only=True)['state_dict']
    kind = world.rng.choice(['prefix', 'shape', 'empty', 'list'])
    content: Any = {
        'prefix': {f'net.{key}': value for key, value in state.items()},
        'shape': {
            key: torch.cat([value, value]) if value.dim() else value for key, value in state.items()
        },
        'empty': {},
        'list': [1, 2],
    }[kind]
    torch.save(content if kind == 'list' else {'state_dict': content}, world.folder / 'weights.pth')
    if kind == 'list' or world.rng.random() < 0.6:
        world.cfg['load_from'] = str(world.folder / 'weights.pth')
    else:
        world.set(
            'model.backbone.init_cfg',
            {'type': 'Pretrained', 'checkpoint': str(world.folder / 'weights.pth')},
        )
    return Case(REFUSED, ('weights.pth',))


@mutation
def other_images(world: World) -> Case:
    """Exchange images, masks or lists of a walk that goes on, without a change of their number."""
    world.take_walk('begun')
    kind = world.rng.choice(['names', 'mask', 'order'])
    path = world.data / 'lists/train.txt'
    names = path.read_text().split()
    if kind == 'names':
        victim = world.rng.choice(names)
        for folder in ('images', 'masks'):
            (world.data / folder / f'{victim}.png').rename(world.data / folder / 'another.png')
        path.write_text('\n'.join('another' if name == victim else name for name in names) + '\n')
    elif kind == 'mask':
        first, second = world.rng.sample(names, 2)
        shutil.copy(world.data / f'masks/{first}.png', world.data / f'masks/{second}.png')
    else:
        path.write_text('\n'.join(reversed(names)) + '\n')
    if kind == 'order':
        return Case(TOLD, ('images',), ('order', 'images', 'note'))
    return Case(REFUSED, ('images', 'mask'))


@mutation
def other_test_images(world: World) -> Case:
    """Exchange masks of the test images of a finished walk."""
    world.take_walk('finished')
    paths = world.pictures('masks', 'val')
    content = [path.read_bytes() for path in paths]
    for path, other in zip(paths, content[1:] + content[:1], strict=True):
        path.write_bytes(other)
    return Case(TOLD, ('test',), ('again',))


@mutation
def links_out_of_it(world: World) -> Case:
    """Let a file of a work directory be a link to a file outside."""
    work_dir = world.take_walk('finished')
    path = work_dir / 'step_00/checkpoint.pth'
    path.rename(world.folder / 'elsewhere.pth')
    path.symlink_to(world.folder / 'elsewhere.pth')
    world.argv = world.rng.choice(
        [
            ['test', 'w'],
            ['train', 'config.py', '--work-dir', 'v', '--start-from', 'w', '--no-report'],
        ]
    )
    return Case(REFUSED, ('link',))


@mutation
def journal_edited(world: World) -> Case:
    """Change an entry of the journal to something of another kind."""
    work_dir = world.take_walk('begun')
    path = work_dir / 'journal.json'
    content = json.loads(path.read_text())
    key = world.rng.choice(sorted(content))
    content[key] = world.rng.choice([None, 3, 'x', [], {}, [3], {'a': 1}])
    path.write_text(json.dumps(content))
    return Case(ANY)


@mutation
def moved_data(world: World) -> Case:
    """Move the data of a walk that goes on: the same images in another place are the same."""
    world.take_walk('begun')
    shutil.move(world.data, world.folder / 'moved')
    for split in ('train', 'test'):
        world.set(f'{split}_dataloader.dataset.data_root', str(world.folder / 'moved'))
    return Case(WORKS)
