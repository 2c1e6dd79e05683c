"""Slips of the command line, for every tool."""

from __future__ import annotations

from pathlib import Path

from fuzzing.world import ANY, REFUSED, WORKS, Case, World, mutation


@mutation
def no_work_directory(world: World) -> Case:
    """Name a file, or something that cannot be made, as the work directory."""
    kind = world.rng.choice(['file', 'below a file', 'nul', 'empty', 'long'])
    place = {
        'file': 'a_file',
        'below a file': 'a_file/w',
        'nul': '/proc/nothing/w',
        'empty': '',
        'long': 'x' * 300,
    }[kind]
    (world.folder / 'a_file').write_text('here already')
    world.argv[world.argv.index('--work-dir') + 1] = place
    return Case(ANY if kind == 'empty' else REFUSED)


@mutation
def options_of_the_config(world: World) -> Case:
    """Write --cfg-options in a way that cannot be read."""
    world.argv += [
        '--cfg-options',
        *world.rng.choice(
            [
                ['a'],
                ['=1'],
                ['model'],
                ['train_cfg.max_iters='],
                ['model.decode_head.channels=many'],
                ['a=1', 'b'],
                ['optim_wrapper.optimizer.lr=nan'],
                ['optim_wrapper.optimizer.lr=inf'],
                ['optim_wraper.optimizer.lr=0.1'],
                ['model.backbone.dpeth=18'],
                ['train_cfg.max_iters=x'],
                ['train_cfg.max_iters=-3'],
                ['protocol.steps=3'],
                ['method.distillers=5'],
                ['param_scheduler.7.end=3'],
                ['randomness.sed=3'],
            ]
        ),
    ]
    return Case(REFUSED)


@mutation
def steps_to_walk(world: World) -> Case:
    """Write --steps in a way that names no steps of the walk."""
    world.argv += [
        '--steps',
        world.rng.choice(
            [
                '0-',
                '-1',
                '2-0',
                '',
                '7',
                'all',
                '0,,1',
                '1',
                '0-1-2',
                '0;1',
                ' ',
                '0.5',
                '1-0',
                '²',
                '0-99999999999',
            ]
        ),
    ]
    return Case(REFUSED)


@mutation
def where_to_start_from(world: World) -> Case:
    """Name no walk, or a step that it does not have, in --start-from."""
    source = world.rng.choice(
        [
            'nowhere',
            'config.py',
            '.',
            'data',
            '',
            ':',
            'nowhere:3',
            ':0',
            f'{world.finished}:9',
            f'{world.finished}:x',
            f'{world.begun}:1',
        ]
    )
    world.argv += ['--start-from', source]
    return Case(ANY if source == '' else REFUSED)


@mutation
def config_file(world: World) -> Case:
    """Name no config file, or one of another kind."""
    kind = world.rng.choice(['missing', 'folder', 'txt', 'binary', 'json', 'none', 'yaml', 'py.'])
    names = {
        'missing': 'nowhere.py',
        'folder': 'data',
        'txt': 'c.txt',
        'binary': 'c.py',
        'json': 'c.json',
        'yaml': 'c.yaml',
        'py.': 'c',
    }
    (world.folder / 'c.txt').write_text('model = dict()')
    (world.folder / 'c').write_text('model = dict()')
    (world.folder / 'c.py').write_bytes(bytes(range(256)))
    (world.folder / 'c.json').write_text('{"model": ')
    (world.folder / 'c.yaml').write_text('a: [')
    if kind == 'none':
        del world.argv[1]
    else:
        world.argv[1] = names[kind]
    return Case(REFUSED)


@mutation
def options_of_the_tool(world: World) -> Case:
    """Misspell an option, or leave its value out."""
    world.argv += world.rng.choice(
        [
            ['--resum'],
            ['--step', '0'],
            ['--work-dir'],
            ['--accept-change'],
            ['--method'],
            ['--launcher', 'torch'],
            ['--launcher', 'slurm'],
            ['--launcher', 'pytorch'],
            ['--launcher', 'mpi'],
            ['--method', 'nobody'],
            ['--protocol', 'voc_15'],
            ['--protocol', 'voc_99-1'],
            ['--protocol', 'x_1-1'],
            ['--dataset', 'nowhere'],
            ['--model', 'nothing'],
            ['--schedule', 'never'],
            ['extra'],
            ['--steps'],
            ['--protocol', 'voc_0-1'],
            ['--protocol', 'ade20k_100-7-3'],
            ['--protocol', '../x'],
            ['--method', '../methods/mib'],
            ['--start-from'],
        ]
    )
    # An abbreviation of an option is the option itself for argparse.
    short = world.argv[-1] in ('--resum', '--accept-change') or world.argv[-2] == '--step'
    return Case(ANY if short or '../methods/mib' in world.argv else REFUSED)


@mutation
def a_place_that_is_taken(world: World) -> Case:
    """Begin a walk where another one lies."""
    world.take_walk('finished')
    world.argv.remove('--resume')
    if world.rng.random() < 0.3:
        world.argv += ['--overwrite']
        return Case(WORKS)
    return Case(REFUSED, ('--resume',))


@mutation
def testing(world: World) -> Case:
    """Call tools/test.py with slips."""
    world.take_walk('finished')
    world.argv = [
        'test',
        *world.rng.choice(
            [
                [],
                ['nowhere'],
                ['config.py'],
                ['data'],
                ['w', '--step', '-1'],
                ['w', '--step', '99'],
                ['w', '--step', 'x'],
                ['w', '--config', 'nowhere.py'],
                ['w', '--cfg-options', 'a'],
                ['w', '--launcher', 'slurm'],
                ['w/step_00'],
                ['w', '--steps'],
                ['w', 'w'],
                ['w', '--cfg-options', 'model.decode_head.channels=4'],
                ['w', '--cfg-options', 'test_dataloader.dataset.data_root=nowhere'],
                [''],
            ]
        ),
    ]
    return Case(REFUSED)


@mutation
def reporting(world: World) -> Case:
    """Call tools/report.py with slips."""
    world.take_walk('finished')
    (world.folder / 'empty').mkdir()
    (world.folder / 'a_file').write_text('')
    world.argv = [
        'report',
        *world.rng.choice(
            [
                [],
                ['nowhere'],
                ['config.py'],
                ['empty'],
                ['w', 'nowhere'],
                ['w', 'empty'],
                ['w', '--out', 'a_file'],
                ['w', '--out', '/proc/nothing'],
                ['w', '--vary', 'no.such.key'],
                ['w', '--vary'],
                ['w', '--vary', ''],
                ['w/step_00'],
                ['w', '--nonsense'],
                ['data', 'w'],
                [''],
            ]
        ),
    ]
    return Case(REFUSED)


@mutation
def listing_protocols(world: World) -> Case:
    """Call tools/protocols.py with slips."""
    world.argv = [
        'protocols',
        *world.rng.choice(
            [
                ['voc_x-1'],
                ['nothing'],
                ['voc_15-1', '--data-root', 'nowhere'],
                ['voc_15-1', '--setting'],
                ['voc_15-1', '--data-root', 'config.py'],
                ['ade20k_1000-1'],
                ['voc_0-0'],
                ['--bad'],
                ['voc_-1-1'],
                ['cityscapes_domain_99-1'],
            ]
        ),
    ]
    return Case(REFUSED)


@mutation
def a_place_without_rights(world: World) -> Case:
    """Let the data and a folder be read-only; root may write there all the same."""
    place = world.folder / 'locked'
    place.mkdir()
    place.chmod(0o500)
    world.argv[world.argv.index('--work-dir') + 1] = 'locked/w'
    return Case(ANY, check=_unlock)


def _unlock(folder: Path) -> None:
    (folder / 'locked').chmod(0o700)
