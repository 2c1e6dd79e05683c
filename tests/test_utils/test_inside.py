"""Links in a work directory lead nowhere else."""

import os

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.utils.inside import check_links, is_plain_name


@pytest.fixture
def work_dir(tmp_path):
    for name in ('step_00/run/vis_data', 'report/samples', 'class_index', 'wandb'):
        (tmp_path / 'walk' / name).mkdir(parents=True)
    (tmp_path / 'walk/step_00/checkpoint.pth').write_text('x')
    (tmp_path / 'secret').write_text('x')
    (tmp_path / 'elsewhere').mkdir()
    return tmp_path / 'walk'


@pytest.mark.parametrize(
    'name',
    [
        'journal.json',
        'metrics.json',
        'walk_config.py',
        'metrics.csv',
        'walk.lock',
        'step_01',
        'step_00/resume.pth',
        'step_00/run/config.py',
        'step_00/run/vis_data/scalars.json',
        'step_00/prune',
        'report/samples/a.jpg',
        'class_index/a.npz',
        'step_00/more/../more',
    ],
)
@pytest.mark.parametrize('target', ['secret', 'elsewhere', 'not_there', 'walk/../secret'])
def test_a_link_out_of_it_is_refused(work_dir, name, target):
    path = work_dir / os.path.normpath(name)
    path.symlink_to(work_dir.parent / target)
    with pytest.raises(InputError, match=f'{path} is a link to .*outside.*--start-from'):
        check_links(work_dir)


@pytest.mark.parametrize('name', ['report', 'class_index', 'step_00'])
def test_a_folder_of_the_walk_that_is_a_link_is_refused(work_dir, name):
    (work_dir / name).rename(work_dir.parent / 'moved')
    (work_dir / name).symlink_to('../moved')
    with pytest.raises(InputError, match=f'{name} is a link'):
        check_links(work_dir)


def test_a_chain_that_ends_outside_is_refused(work_dir):
    (work_dir / 'step_00/a.pth').symlink_to('b.pth')
    (work_dir / 'step_00/b.pth').symlink_to('../../secret')
    with pytest.raises(InputError, match='is a link to'):
        check_links(work_dir)


def test_links_within_and_the_directory_itself_may_be_links(work_dir):
    (work_dir / 'step_01').symlink_to('step_00')
    (work_dir / 'step_00/latest').symlink_to('run')
    (work_dir / 'step_00/again.pth').symlink_to(work_dir / 'step_00/checkpoint.pth')
    # Folders of other tools are none of our affair.
    (work_dir / 'wandb/latest').symlink_to('../../elsewhere')
    (work_dir / 'data').symlink_to('../elsewhere')
    check_links(work_dir)
    link = work_dir.parent / 'link'
    link.symlink_to(work_dir)
    check_links(link)
    parent = work_dir.parent.parent / f'{work_dir.parent.name}_link'
    parent.symlink_to(work_dir.parent)
    check_links(parent / 'walk')
    check_links(work_dir / 'nowhere')


def test_a_loop_of_links_does_not_hang(work_dir):
    (work_dir / 'step_00/a').symlink_to('b')
    (work_dir / 'step_00/b').symlink_to('a')
    (work_dir / 'step_00/up').symlink_to('..')
    check_links(work_dir)


def test_names_of_files_in_a_folder():
    assert all(map(is_plain_name, ('a.pth', 'a b', '..a', 'ä')))
    assert not any(map(is_plain_name, ('../a', '/a', 'a/b', '..', '.', '', 'a\\b', 'a\0', None, 3)))
