"""Published figures in a comparison: never among the walks' own results."""

import json

import pytest
from synthetic_walks import make_walk

from mmseg_cil.protocols import build_protocol
from mmseg_cil.visualization.comparison_figures import comparison_curves
from mmseg_cil.visualization.published import published_table
from mmseg_cil.visualization.report import render_comparison
from mmseg_cil.visualization.seeds import seed_groups
from mmseg_cil.visualization.walk_record import read_walk


@pytest.fixture
def folders(tmp_path):
    """Two walks over VOC 15-1, overlapped."""
    protocol = build_protocol({'name': 'voc_15-1'})
    steps = [protocol.class_names(step.new) for step in protocol.steps]
    for method in ('finetune', 'mib'):
        folder, _ = make_walk(tmp_path / method, steps, method, protocol='voc_15-1')
        journal = json.loads((folder / 'journal.json').read_text())
        journal['protocol'] |= protocol.to_dict()
        (folder / 'journal.json').write_text(json.dumps(journal))
    return [tmp_path / 'finetune', tmp_path / 'mib']


def test_they_have_a_table_of_their_own_with_source(folders):
    table = published_table([read_walk(folder) for folder in folders])
    assert table.caption.startswith('Published, not run here')
    assert ['published: mib', 'overlapped', '–', '–', '29.29', 'counted'] in [
        row[:6] for row in table.rows
    ]
    assert {row[0] for row in table.rows} == {'published: finetune', 'published: mib'}
    assert all(row[1] == 'overlapped' and row[7] for row in table.rows)


def test_they_are_dotted_lines_that_treat_the_background_alike(folders):
    figure = comparison_curves(seed_groups([read_walk(folder) for folder in folders], ['a', 'b']))
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert 'published: mib, PLOP paper (CVPR 2021)' in labels
    assert not any('MiB paper' in label for label in labels)


def test_the_report_shows_both(folders):
    lines = []
    page = render_comparison(folders, echo=lines.append).read_text()
    assert 'published: mib' in '\n'.join(lines) and '<caption>Published, not run here' in page
    assert 'dotted: published, not run here' in page


def test_walks_over_other_classes_have_none(tmp_path):
    folders = [make_walk(tmp_path / name, method=name, protocol='voc_15-1')[0] for name in 'ab']
    assert published_table([read_walk(folder) for folder in folders]) is None
    assert 'ublished' not in render_comparison(folders, echo=lambda _: None).read_text()
