"""The part of a report that shows sub-steps."""

import json

import numpy as np
from PIL import Image
from synthetic_walks import make_walk

from mmseg_cil.visualization.report import render_report
from mmseg_cil.visualization.sub_steps import sub_step_section
from mmseg_cil.visualization.walk_record import read_walk


def with_sub_steps(folder):
    """A walk whose step 1 has a generator and a teacher of its own."""
    make_walk(folder)
    journal = json.loads((folder / 'journal.json').read_text())
    journal['steps'] = [
        dict(step=0, status='done'),
        dict(
            step=1,
            status='done',
            sub_steps={
                'generator': dict(files={}, iterations=30, seconds=4.5),
                'new_data': dict(files={}, iterations=200, seconds=61.0),
            },
        ),
    ]
    (folder / 'journal.json').write_text(json.dumps(journal))
    log = folder / 'step_01/generator/20250101_000000/vis_data'
    log.mkdir(parents=True)
    lines = [json.dumps(dict(loss=9.0, follows=0.3 + 0.01 * i, iter=i + 1)) for i in range(30)]
    (log / 'scalars.json').write_text('\n'.join([*lines, '{"loss": 1']))
    pixels = np.zeros((20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(folder / 'step_01/generator/samples.png')
    (folder / 'step_01/generator/summary.json').write_text(json.dumps(dict(follows=0.625)))
    return folder


def test_they_are_listed_with_their_pictures(tmp_path):
    walk = read_walk(with_sub_steps(tmp_path / 'walk'))
    section = sub_step_section(walk, tmp_path)
    table, curve, grid = section.content
    assert [list(row[:4]) for row in table.rows] == [
        ['step 1', 'generator', '30', '4.5'],
        ['step 1', 'new_data', '200', '61.0'],
    ]
    assert table.rows[0][4] == '62.50' and table.rows[1][4] == '–'
    assert 'from 30% to 59%' in curve.alt and curve.path.is_file()
    assert '62.5%' in grid.caption and grid.path.name == 'samples.png'
    # The generator's loss is not the step's.
    assert max(walk.losses[1].iterations) == 600


def test_the_page_holds_them_and_a_walk_without_has_no_such_part(tmp_path):
    page = render_report(with_sub_steps(tmp_path / 'walk'), echo=lambda text: None)
    text = page.read_text(encoding='utf-8')
    assert 'Sub-steps' in text and 'generated images' in text
    make_walk(tmp_path / 'plain')
    page = render_report(tmp_path / 'plain', echo=lambda text: None)
    assert 'Sub-steps' not in page.read_text(encoding='utf-8')


def test_damaged_records_cost_no_report(tmp_path):
    folder = with_sub_steps(tmp_path / 'walk')
    (folder / 'step_01/generator/summary.json').write_text('{')
    (folder / 'step_01/generator/samples.png').unlink()
    section = sub_step_section(read_walk(folder), tmp_path)
    assert section.content[0].rows[0][4] == '–' and len(section.content) == 2
