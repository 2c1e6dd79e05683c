"""The cells of a grid, by names that stay."""

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.grid.asked import read_axis
from mmseg_cil.grid.plan import Axis, Variant, fit_name, plan_grid, variant_of

MIB, PLOP = Variant('mib', 'mib'), Variant('plop', 'plop')
VOC = Variant('voc_15-1', 'voc_15-1')


def test_all_combinations_have_places_of_their_own():
    axes = [Axis('model.depth', (18, 50)), Axis('method.distillers.0.weight', (1.0,), 'plop')]
    plan = plan_grid([MIB, PLOP], [VOC], [1, 2], axes)
    assert [cell.place for cell in plan.cells][::2] == [
        'voc_15-1/mib@model.depth=18/seed_1',
        'voc_15-1/mib@model.depth=50/seed_1',
        'voc_15-1/plop@model.depth=18,method.distillers.0.weight=1.0/seed_1',
        'voc_15-1/plop@model.depth=50,method.distillers.0.weight=1.0/seed_1',
    ]
    assert plan.cells[-1].setting.options == {
        'model.depth': 50,
        'method.distillers.0.weight': 1.0,
    }
    assert plan_grid([MIB], [VOC], [1]).cells[0].place == 'voc_15-1/mib/seed_1'


def test_names_are_fit_for_folders_and_stay_apart():
    assert fit_name('lr=0.01') == 'lr=0.01'
    assert fit_name('a/b') != fit_name('a:b')
    assert '/' not in fit_name('a/../b') and len(fit_name('x' * 500)) < 140


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (([], [VOC], [1]), 'no methods'),
        (([MIB], [], [1]), 'no protocols'),
        (([MIB], [VOC], []), 'no seeds'),
        (([MIB, MIB], [VOC], [1]), 'method mib is in the grid twice'),
        (([MIB], [VOC, VOC], [1]), 'protocol voc_15-1 is in the grid twice'),
        (([MIB], [VOC], [1, 1]), 'seed 1 is in the grid twice'),
        (([MIB], [VOC], [1], [Axis('a', (1,)), Axis('a', (2,))]), 'axis :a'),
        (([MIB], [VOC], [1], [Axis('a', (1, 1))]), 'setting a=1 twice'),
        (([MIB], [VOC], [1], [Axis('a', (1,), 'plop')]), "no method 'plop'"),
    ],
)
def test_what_is_no_grid_is_refused(arguments, told):
    with pytest.raises(InputError, match=told):
        plan_grid(*arguments)


def test_axes_are_read_as_python_reads_values():
    axis = read_axis('vdfd:a.b=1,0.5,true,[1,2],x,"y,z"')
    assert (axis.method, axis.key) == ('vdfd', 'a.b')
    assert axis.values == (1, 0.5, True, [1, 2], 'x', 'y,z')
    for text in ('a.b', '=1', 'a..b=1', 'a=', 'a=1,,2'):
        with pytest.raises(InputError, match='--set'):
            read_axis(text)


def test_variants_are_names_paths_or_dicts():
    assert variant_of('mib', 'method') == MIB
    assert variant_of('parts/mine.py', 'method') == Variant('mine', 'parts/mine.py')
    found = variant_of(dict(name='v', method='vdfd', options={'a.b': 1}), 'method')
    assert found == Variant('v', 'vdfd', {'a.b': 1})
    for entry in (
        3,
        '',
        dict(method='vdfd', opions={}),
        dict(options={}),
        dict(name='x', options=3),
    ):
        with pytest.raises(InputError, match=r'grid\.methods'):
            variant_of(entry, 'method')
