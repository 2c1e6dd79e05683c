"""The published figures: that the rows can be, and where they are shown."""

import pytest

from mmseg_cil.engine.config.compose import BASES
from mmseg_cil.errors import InputError
from mmseg_cil.protocols import build_protocol
from mmseg_cil.published_figures import FILE, figures_of, read_figures

FIGURES = read_figures()


def described(name, **request):
    return build_protocol({'name': name, **request}).to_dict()


def test_every_row_is_of_a_method_and_a_protocol_that_there_are():
    methods = {path.stem for path in (BASES / 'methods').glob('*.py')}
    for figure in FIGURES:
        assert figure.method in methods
        protocol = build_protocol({'name': figure.protocol})
        # The customary name, so that no figure is there twice.
        assert protocol.spellings().get('foreground', figure.protocol) == figure.protocol
        settings = ('legacy',) if '_domain_' in figure.protocol else ('overlapped', 'disjoint', '')
        assert figure.setting in settings
        assert figure.source and figure.all is not None


def test_no_row_is_there_twice():
    told = [(f.method, f.protocol, f.setting, f.backbone, f.source) for f in FIGURES]
    assert len(told) == len(set(told)) > 150


def test_figures_of_the_tables_that_they_are_from():
    """A few cells of the papers' tables, read there once more."""
    found = {(f.method, f.protocol, f.setting, f.source.split()[0]): f for f in FIGURES}
    plop = found['plop', 'voc_15-1', 'overlapped', 'PLOP']
    assert (plop.old, plop.new, plop.all, plop.background) == (65.12, 21.11, 54.64, True)
    mib = found['mib', 'voc_15-5', 'overlapped', 'MiB']
    # Without background: 15 old classes and 5 new ones.
    assert abs((15 * mib.old + 5 * mib.new) / 20 - mib.all) < 0.05 and mib.background is False
    assert found['rcil', 'cityscapes_domain_1-1', 'legacy', 'VDFD'].all == 48.9


def test_two_names_of_one_walk_have_the_same_figures():
    assert figures_of(described('voc_11-1')) == figures_of(described('voc_10-1')) != []
    assert figures_of(described('voc_16-1')) == []


def test_only_the_setting_of_the_walk_counts_and_those_without_one():
    assert {f.setting for f in figures_of(described('voc_15-1', setting='disjoint'))} == {
        'disjoint'
    }
    assert {f.setting for f in figures_of(described('ade20k_100-10'))} == {'', 'overlapped'}
    assert figures_of(described('cityscapes_domain_11-5')) == []
    assert figures_of(described('cityscapes_domain_11-5', split='legacy'), 'vdfd')[0].all == 64.77


def test_other_steps_under_the_same_name_have_no_figures():
    assert figures_of(described('voc_15-1', class_order=dict(seed=3))) == []
    assert figures_of({'name': 'voc_15-1'}) == figures_of({'name': 'my walk', 'steps': []}) == []


def test_the_form_of_the_official_code_has_the_figures_of_its_method():
    walk = described('voc_15-5')
    assert figures_of(walk, 'plop_paper') == figures_of(walk, 'plop') != []
    assert figures_of(walk, 'lgkd_paper') == figures_of(walk, 'lgkd') != []
    assert figures_of(walk, 'mib_nest_paper') == figures_of(walk, 'mib_nest') != []
    walk = described('voc_15-1')
    for method in ('mib_ewf', 'plop_ewf', 'reminder'):
        assert figures_of(walk, f'{method}_paper') == figures_of(walk, method) != []
    assert figures_of(walk, 'dkd_decomposed_paper') == figures_of(walk, 'dkd_decomposed') != []


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('mib,voc_15-1,,,MiB,no,,,129.7,', "line 2: all is '129.7'"),
        ('mib,voc_15-1,,,MiB,perhaps,,,29.7,', 'line 2: background must be'),
        ('mib,voc_15-1,,,MiB,no,,,29.7,a, b', 'line 2: .*quote a cell'),
    ],
)
def test_a_wrong_row_is_named(tmp_path, line, message):
    path = tmp_path / 'published.csv'
    path.write_text(f'{FILE.read_text().splitlines()[0]}\n{line}\n')
    with pytest.raises(InputError, match=message):
        read_figures(path)


def test_a_package_without_the_file_knows_no_figures(tmp_path):
    assert read_figures(tmp_path / 'published.csv') == ()
    path = tmp_path / 'published.csv'
    path.write_text('method,figure\n')
    with pytest.raises(InputError, match='first line'):
        read_figures(path)
