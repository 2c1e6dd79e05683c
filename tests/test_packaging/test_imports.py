"""The floors of the package: no circle of imports, and nothing below a method knows one."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'mmseg_cil'
METHODS = 'mmseg_cil.methods'


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {name_of(path): path for path in PACKAGE.rglob('*.py')}


def imports(path, modules):
    """Every module of ours that a file imports, in functions and for type checks too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & modules
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f'{node.module}.{alias.name}' for alias in node.names} & modules
            found |= whole or {node.module} & modules
    return found


@pytest.fixture(scope='module')
def graph():
    arrows = {name: imports(path, MODULES.keys()) - {name} for name, path in MODULES.items()}
    assert len(arrows['mmseg_cil.engine.walk_runner']) > 20
    return arrows


def test_there_is_no_circle(graph):
    # Raises CycleError, which shows the circle.
    TopologicalSorter(graph).prepare()


def test_packages_import_from_their_floor_and_below(graph):
    rows = re.findall(r'^\| (\d) \| ([^|]+) \|', (ROOT / 'ARCHITECTURE.md').read_text(), re.M)
    floors = {name: int(floor) for floor, names in rows for name in re.findall(r'`(\w+)`', names)}

    def package(name):
        return name.split('.')[1] if '.' in name else ''

    there = {package(name) for name in graph} - {'', '__main__'}
    assert there == set(floors)
    wrong = [
        (name, target)
        for name, targets in graph.items()
        for target in targets
        if floors.get(package(name), 9) < floors.get(package(target), 0)
    ]
    assert wrong == []


def test_nothing_below_imports_a_method(graph):
    wrong = [
        (name, target)
        for name, targets in graph.items()
        if not name.startswith(METHODS)
        for target in targets
        if target.startswith(METHODS)
    ]
    assert wrong == []


def test_methods_know_few_things_of_each_other(graph):
    def room(name):
        return name.split('.')[2] if name.startswith(f'{METHODS}.') else None

    arrows = {
        (name, target)
        for name, targets in graph.items()
        for target in targets
        if room(name) and room(target) and room(name) != room(target)
    }
    mib = f'{METHODS}.mib.unbiased_cross_entropy'
    assert arrows == {
        (f'{METHODS}.plop.pseudo_label_loss', mib),
        (f'{METHODS}.vdfd.step_classes_cross_entropy', mib),
        (f'{METHODS}.rcil.distiller', f'{METHODS}.plop.local_pod'),
        (f'{METHODS}.self_labels.loss', mib),
        (f'{METHODS}.self_labels.hook', f'{METHODS}.plop.pseudo_labels'),
        (f'{METHODS}.star.loss', f'{METHODS}.dkd_decomposed.loss'),
    }


def test_an_import_in_a_function_or_for_types_counts(tmp_path):
    file = tmp_path / 'module.py'
    file.write_text(
        'from typing import TYPE_CHECKING\n'
        'if TYPE_CHECKING:\n    from a.b import C\n'
        'def f():\n    from a import d\n    import a.e\n'
    )
    assert imports(file, {'a', 'a.b', 'a.d', 'a.e'}) == {'a.b', 'a.d', 'a.e'}


def test_nothing_else_imports_what_is_for_tests(graph):
    wrong = [
        (name, target)
        for name, targets in graph.items()
        if not name.startswith('mmseg_cil.testing')
        for target in targets
        if target.startswith('mmseg_cil.testing')
    ]
    assert wrong == []
    # Whoever only uses the tiny walks needs no pytest.
    assert not any('pytest' in MODULES[name].read_text() for name in MODULES if '.testing.' in name)
