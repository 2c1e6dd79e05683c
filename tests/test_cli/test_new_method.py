"""The skeleton of a method: what is written, what is refused, and that it passes the checks."""

import sys

import pytest

from mmseg_cil.cli.new_method import write_skeleton
from mmseg_cil.engine.config.compose import read_piece
from mmseg_cil.errors import InputError
from mmseg_cil.testing.method_checks import check_method


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.walk
@pytest.mark.parametrize(('name', 'kind'), [('own_pull', 'distiller'), ('own_doubt', 'loss')])
def test_a_skeleton_passes_a_check(folder, name, kind):
    init, piece, test = write_skeleton(name, kind, folder)
    assert init.parent == piece.parent == folder / name and test.parent == folder
    method = read_piece('method', str(piece))['method']
    check_method(method, folder / 'walks', imports=[name], checks=['mixed_precision'])
    compile(test.read_text(), str(test), 'exec')


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize(('name', 'kind'), [('own_hold', 'distiller'), ('own_sure', 'loss')])
def test_a_skeleton_passes_all_checks(folder, name, kind):
    piece = write_skeleton(name, kind, folder)[1]
    method = read_piece('method', str(piece))['method']
    check_method(method, folder / 'walks', imports=[name])


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('2nd', 'cannot be the name'),
        ('my-own', 'cannot be the name'),
        ('Mine', 'cannot be the name'),
        ('class', 'cannot be the name'),
        ('mib', 'there is a method mib'),
        ('json', 'a Python module json'),
        ('logit', 'LogitDistiller'),
    ],
)
def test_names_that_are_taken_are_refused(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        write_skeleton(name, 'distiller', tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    write_skeleton('own_again', 'loss', tmp_path)
    assert 'own_again' not in sys.modules
    (tmp_path / 'own_again' / '__init__.py').write_text('mine')
    with pytest.raises(InputError, match='is there already'):
        write_skeleton('own_again', 'loss', tmp_path)
    assert (tmp_path / 'own_again' / '__init__.py').read_text() == 'mine'
