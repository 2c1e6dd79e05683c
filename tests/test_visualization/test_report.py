import base64
import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic_walks import VOC, make_walk

from mmseg_cil.errors import InputError
from mmseg_cil.utils.harmonic import entry_with_harmonic, with_harmonic
from mmseg_cil.visualization.report import load_walk, render_comparison, render_report
from mmseg_cil.visualization.seeds import seed_groups
from mmseg_cil.visualization.walk_record import read_walk

TOOL = Path(__file__).parents[2] / 'tools' / 'report.py'
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
VOID_TAGS = {'meta', 'img', 'br', 'link', 'input', 'hr'}


class Page(HTMLParser):
    """Parses a page strictly: tags must balance. Collects tables, images and references."""

    def __init__(self, path):
        super().__init__()
        self.text = path.read_text(encoding='utf-8')
        self.open, self.tables, self.images, self.references = [], {}, [], []
        self.drawings, self.ids, self.scripts = [], [], 0
        self.caption, self.cell, self.notes = None, None, ''
        self.feed(self.text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID_TAGS:
            self.open.append(tag)
        self.references += [attrs[key] for key in ('src', 'href') if key in attrs]
        if tag == 'img':
            self.images.append(attrs)
        elif tag == 'table':
            self.rows = []
        elif tag == 'tr':
            self.rows.append([])
        elif tag in ('td', 'th', 'caption'):
            self.cell = ''
        elif tag == 'svg':
            self.drawings.append(attrs)
        self.ids += [attrs['id']] if 'id' in attrs else []
        self.scripts += tag == 'script'
        assert tag != 'script' or not attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == 'caption':
            self.caption = self.cell
        elif tag in ('td', 'th'):
            self.rows[-1].append(self.cell)
        elif tag == 'table':
            assert self.caption
            self.tables[self.caption], self.caption = self.rows, None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data
        if 'aside' in self.open:
            self.notes += data

    def table(self, start):
        return next(rows for caption, rows in self.tables.items() if caption.startswith(start))


def _percent(value):
    return '–' if value is None else f'{100 * value:.2f}'


def _check_page(page):
    """Nothing is loaded from elsewhere; every picture has a text and is what the file is."""
    assert 'http://' not in page.text and 'https://' not in page.text
    assert all(ref.startswith(('data:image/png;base64,', '#')) for ref in page.references)
    assert page.scripts == 1 and len(set(page.ids)) == len(page.ids)
    inner = {ref[1:] for ref in page.references if ref.startswith('#')}
    inner |= set(re.findall(r'url\(#([^)]+)\)', page.text))
    assert inner <= set(page.ids)
    for drawing in page.drawings:
        assert drawing['role'] == 'img' and len(drawing['aria-label']) > 30
        assert 'viewbox' in drawing and 'width' not in drawing
    for image in page.images:
        assert len(image['alt']) > 30
        with Image.open(BytesIO(base64.b64decode(image['src'].split(',', 1)[1]))) as picture:
            picture.load()
            assert min(picture.size) > 200


def test_pruned_snapshots_have_a_table(tmp_path):
    folder, metrics = make_walk(tmp_path / 'w')
    for step, entry in enumerate(metrics['steps']):
        entry['sub_steps'] = {
            'other': {'images': 3},
            'prune': dict(
                snapshot_mIoU=0.25,
                kept_share=0.5,
                bytes_snapshot=2**20 * (step + 1),
                bytes_dense=2**22,
                bytes_all_snapshots=2**21,
            ),
        }
    (folder / 'metrics.json').write_text(json.dumps(metrics))
    lines = []
    page = Page(render_report(folder, echo=lines.append))
    rows = page.table('Pruned snapshots')[1:]
    assert rows == [
        [
            str(step),
            '50.00',
            f'{step + 1}.00',
            '2.00',
            '4.00',
            '25.00',
            _percent(entry['mIoU']['all']),
        ]
        for step, entry in enumerate(metrics['steps'])
    ]
    assert any('Pruned snapshots' in line for line in lines)


@pytest.mark.usefixtures('with_pdfs')
def test_the_page_shows_the_numbers_of_the_file(tmp_path):
    folder, metrics = make_walk(tmp_path / 'w', samples=2)
    lines = []
    path = render_report(folder, echo=lines.append)
    assert path == folder / 'report' / 'index.html'
    page = Page(path)
    _check_page(page)
    assert page.notes == ''
    parts = ('all', 'old', 'new', 'hIoU', 'base', 'later')
    for caption, key in (
        ('mIoU (%) after each step, background counted', 'mIoU'),
        ('mIoU (%) after each step, background not counted', 'mIoU_without_background'),
    ):
        rows = page.tables[caption]
        assert rows[0][3:] == list(parts)
        for row, entry in zip(rows[1:], metrics['steps'], strict=True):
            assert row[0] == str(entry['step']) and row[2] == str(entry['images'])
            means = with_harmonic(entry[key])
            assert row[3:] == [_percent(means[part]) for part in parts]
    classes = page.table('IoU (%) of every class after each step')
    assert [row[0] for row in classes[1:]] == ['background', 'cat', 'dog', 'cow', 'sheep']
    for row in classes[1:]:
        expected = [_percent(entry['IoU'].get(row[0])) for entry in metrics['steps']]
        assert row[2:5] == expected
        assert row[5] == _percent(metrics['steps'][2]['accuracy'][row[0]])
    assert [row[1] for row in classes[1:]] == ['0', '0', '0', '1', '2']
    assert page.table('Whole walk')[1:] == [
        ['average mIoU', '61.23'], ['forgetting', '7.89'], ['BWT', '-5.67'],
    ]  # fmt: skip
    names = {'curve', 'classes', 'groups', 'loss'}
    for kind in ('svg', 'pdf'):
        assert {file.stem for file in path.parent.glob(f'*.{kind}')} == names
    assert len(page.drawings) == len(names) and len(page.images) == 1
    assert (path.parent / 'predictions.png').exists()
    assert _percent(metrics['steps'][2]['mIoU']['old']) in '\n'.join(lines)
    assert '\n'.join(lines).isascii()


def test_pictures_have_room_for_every_class_and_step(tmp_path):
    folder, _ = make_walk(tmp_path / 'w', [VOC[:11], *([name] for name in VOC[11:])], samples=3)
    render_report(folder, echo=lambda _: None)
    head = (folder / 'report/classes.svg').read_text()[:2000]
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head).groups())
    # 21 rows and 11 columns, each as large as its number needs, in points.
    assert width >= 11 * 39 and height >= 21 * 15
    with Image.open(folder / 'report/predictions.png') as picture:
        # Three samples of 13 pictures, eight a line: six lines.
        assert picture.width == 8 * 190 + 7 * 8 + 2 * 16
        assert picture.height > 6 * 140


def test_long_titles_and_labels_stay_inside_the_grid(tmp_path):
    long = 'a_method_with_a_very_long_name_that_goes_on_and_on'
    folder, _ = make_walk(tmp_path / 'w', [VOC[:5]], samples=1, method=long, protocol='p' * 40)
    render_report(folder, echo=lambda _: None)
    with Image.open(folder / 'report/predictions.png') as picture:
        grey = picture.convert('L')
        edge = grey.crop((picture.width - 8, 0, picture.width, picture.height))
        assert edge.getextrema() == (255, 255)


@pytest.mark.usefixtures('with_pdfs')
def test_rendering_again_gives_the_same_files(tmp_path):
    folder, _ = make_walk(tmp_path / 'w', samples=1)
    page = render_report(folder, echo=lambda _: None).read_bytes()
    assert render_report(folder, echo=lambda _: None).read_bytes() == page


def test_a_walk_over_domains(tmp_path):
    cities = [('aachen', 'bremen', 'ulm'), ('bochum',), ('<b>&amp',)]
    folder, _ = make_walk(tmp_path / 'w', cities, kind='domain', method='a & <i>')
    page = Page(render_report(folder, echo=lambda _: None))
    _check_page(page)
    assert page.table('What each step brought: domains')[1:] == [
        ['0', 'aachen, bremen, ulm'], ['1', 'bochum'], ['2', '<b>&amp'],
    ]  # fmt: skip
    assert page.table('IoU (%) of every class')[0][:2] == ['class', 'after 0']
    assert not any('background' in caption for caption in page.tables)


def test_missing_pieces_are_told_and_the_rest_is_shown(tmp_path):
    folder, _ = make_walk(tmp_path / 'w', done=2, samples=1, losses=False)
    (folder / 'step_01/predictions/image_0.png').write_bytes(b'\x89PNG broken')
    page = Page(render_report(folder, echo=lambda _: None))
    assert '2 of 3 steps are evaluated; not yet: step 2.' in page.notes
    assert 'No training loss is logged' in page.notes
    assert 'step_01/predictions/image_0.png cannot be read' in page.notes
    assert (folder / 'report/predictions.png').exists()
    (folder / 'report/samples.json').write_text('{')
    page = Page(render_report(folder, echo=lambda _: None))
    assert 'samples.json is damaged' in page.notes
    assert not (folder / 'report/predictions.png').exists()


def test_no_step_yet(tmp_path):
    folder, _ = make_walk(tmp_path / 'w', done=0)
    page = Page(render_report(folder, echo=lambda _: None))
    assert 'holds no step' in page.notes and page.images == []
    other, _ = make_walk(tmp_path / 'o')
    with pytest.raises(InputError, match='holds no step'):
        render_comparison([other, folder])


@pytest.mark.usefixtures('with_pdfs')
def test_comparison_shows_each_walk_and_the_difference(tmp_path):
    first, a = make_walk(tmp_path / 'ft', method='finetune', keep=0.5, samples=2)
    second, b = make_walk(tmp_path / 'mib', samples=2)
    lines = []
    path = render_comparison([first, second], echo=lines.append)
    assert path == first / 'report/comparison.html'
    page = Page(path)
    _check_page(page)
    assert len(page.drawings) == 3 and len(page.images) == 1
    rows = page.table('mIoU (%) after the last step')
    for row, name, metrics in zip(rows[1:], ('finetune', 'mib'), (a, b), strict=True):
        last = with_harmonic(metrics['steps'][-1]['mIoU'])
        parts = ('all', 'old', 'new', 'hIoU', 'base', 'later')
        assert row == [
            name, '3', *(_percent(last[p]) for p in parts),
            '61.23', '7.89', '-5.67',
        ]  # fmt: skip
        assert _percent(last['old']) in '\n'.join(lines)
    for row in page.table('IoU (%) of every class')[1:]:
        values = [m['steps'][-1]['IoU'][row[0]] for m in (a, b)]
        expected = [_percent(v) for v in values] + [f'{100 * (values[1] - values[0]):+.2f}']
        assert row[1:] == expected
    assert page.table('mIoU (%) of old after each step')[1][1] == '–'


def test_walks_of_one_method_are_told_apart(tmp_path):
    folders = [make_walk(tmp_path / name)[0] for name in ('seed0', 'seed1', 'deep/seed1')]
    page = Page(render_comparison(folders, tmp_path / 'out', echo=lambda _: None))
    names = [row[0] for row in page.table('mIoU (%) after the last step')[1:]]
    assert names[0] == 'mib (seed0)' and len(set(names)) == 3


def test_mixed_protocols_are_refused_unless_allowed(tmp_path):
    first, _ = make_walk(tmp_path / 'a', method='mib')
    joint, _ = make_walk(
        tmp_path / 'b', [('background', 'cat', 'dog', 'cow', 'sheep')], method='joint',
        protocol='toy_joint', fingerprint='other',
    )  # fmt: skip
    with pytest.raises(InputError, match=r'differ in protocol \(toy_3-1 .*--allow-mixed'):
        render_comparison([first, joint])
    page = Page(render_comparison([first, joint], tmp_path / 'o', True, echo=lambda _: None))
    assert 'The protocols differ' in page.notes and 'different numbers of steps' in page.notes


def test_two_names_of_one_protocol_compare_but_other_rules_do_not(tmp_path):
    first, _ = make_walk(tmp_path / 'a', method='mib', protocol='voc_11-5')
    second, metrics = make_walk(tmp_path / 'b', method='plop', protocol='voc_10-5')
    render_comparison([first, second], echo=lambda _: None)
    metrics['steps'][0]['settings']['background_in_means'] = False
    (second / 'metrics.json').write_text(json.dumps(metrics))
    with pytest.raises(InputError, match=r'background_in_means \(True, False\)'):
        render_comparison([first, second])
    third, _ = make_walk(tmp_path / 'c', protocol='voc_11-5', fingerprint='other order')
    with pytest.raises(InputError, match='one name, but other classes'):
        render_comparison([first, third])


def with_journal(folder, **content):
    path = folder / 'journal.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **content}))


def test_walks_over_other_images_do_not_compare_silently(tmp_path):
    folders = [make_walk(tmp_path / name)[0] for name in 'abc']
    with_journal(folders[0], data=dict(train=['1', '2', '3'], test=['4', '5', '6']))
    with_journal(folders[1], data=dict(train=['1', '0', None], test=['4', '5', '6']))
    page = Page(render_comparison(folders, tmp_path / 'o', echo=lambda _: None))
    assert 'mib (b) was trained on other images or masks than mib (a) at step 1.' in page.notes
    assert 'mib (c)' not in page.notes
    with_journal(folders[2], data=dict(train=['1', '2', '3'], test=['7', '8']))
    with pytest.raises(InputError, match='differ in the test images or masks of steps 0, 1'):
        render_comparison(folders)
    page = Page(render_comparison(folders, tmp_path / 'o', True, echo=lambda _: None))
    assert 'mib (c) was tested on other images or masks than mib (a) at steps 0, 1' in page.notes


def test_accepted_changes_are_told(tmp_path):
    folder, _ = make_walk(tmp_path / 'a')
    with_journal(
        folder,
        accepted_changes=[
            dict(changed=['schedule', 'seed'], trained_before=[0, 1]),
            dict(changed=['method'], trained_before=[]),
        ],
    )
    notes = Page(render_report(folder, echo=lambda _: None)).notes
    assert 'went on with accepted changes of schedule, seed after steps 0, 1.' in notes
    assert notes.count('accepted') == 1


def test_a_comparison_needs_two_different_walks(tmp_path):
    folder, metrics = make_walk(tmp_path / 'a')
    with pytest.raises(InputError, match='at least two'):
        render_comparison([folder])
    with pytest.raises(InputError, match='given twice'):
        render_comparison([folder, tmp_path / '.' / 'a'])
    steps = [entry_with_harmonic(entry) for entry in metrics['steps']]
    assert load_walk(folder) == {**metrics, 'steps': steps}


def _run(*arguments):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd='/')


@pytest.mark.walk
def test_the_tool_and_its_exit_status(tmp_path):
    folder, _ = make_walk(tmp_path / 'a')
    other, _ = make_walk(tmp_path / 'b', method='plop', protocol='other', fingerprint='x')
    done = _run(folder, '--out', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    assert f'report: {tmp_path / "out/index.html"}' in done.stdout
    wrong = _run(folder, other)
    assert wrong.returncode == 2 and '--allow-mixed' in wrong.stderr
    assert 'Traceback' not in wrong.stderr
    assert _run(folder, other, '--allow-mixed').returncode == 0
    assert _run().returncode == 2
    (other / 'metrics.json').unlink()
    broken = _run(other)
    assert broken.returncode == 2 and 'metrics.json is missing' in broken.stderr


def test_the_report_starts_without_torch():
    code = (
        'import sys, mmseg_cil.visualization.report; '
        'sys.exit(bool({"torch", "mmengine", "matplotlib.pyplot"} & set(sys.modules)))'
    )
    assert subprocess.run([sys.executable, '-c', code], cwd=TOOL.parents[1]).returncode == 0


HOSTILE = '<script>alert(1)</script>&"\'$\\frac'


def test_names_are_text_in_the_page(tmp_path):
    steps = (('background', HOSTILE), ('cow$_{',), ('<img src=x onerror=y>',))
    folder, _ = make_walk(
        tmp_path / 'walk', steps=steps, method=HOSTILE, protocol='<b>p', samples=1
    )
    page = Page(render_report(folder, echo=len))
    _check_page(page)
    assert '<script>alert' not in page.text and '<img src=x' not in page.text
    assert '<b>p' not in page.text
    assert HOSTILE in [row[0] for row in page.table('IoU')]
    make_walk(tmp_path / 'other', steps=steps, method='<i>', protocol='<b>p')
    page = Page(render_comparison([folder, tmp_path / 'other'], tmp_path / 'out', echo=len))
    _check_page(page)
    assert '<script>alert' not in page.text and '<i>' not in page.text


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('image_path', '../secret.png'),
        pytest.param('image_path', '/etc/passwd', marks=pytest.mark.slow),
        ('truth', 'a/../../secret.png'),
        pytest.param('truth', '', marks=pytest.mark.slow),
        ('name', '../x'),
        pytest.param('name', None, marks=pytest.mark.slow),
        pytest.param('image_path', 3, marks=pytest.mark.slow),
    ],
)
def test_a_report_shows_no_pictures_from_elsewhere(tmp_path, key, value):
    folder, _ = make_walk(tmp_path / 'walk', samples=1)
    index = folder / 'report/samples.json'
    entries = json.loads(index.read_text())
    entries[0][key] = value
    index.write_text(json.dumps(entries))
    Image.new('RGB', (300, 300)).save(tmp_path / 'secret.png')
    page = Page(render_report(folder, echo=len))
    assert 'samples.json is damaged' in page.notes
    assert not (folder / 'report/predictions.png').exists()


def test_a_report_shows_no_sub_step_from_elsewhere(tmp_path):
    folder, _ = make_walk(tmp_path / 'walk')
    journal = json.loads((folder / 'journal.json').read_text())
    journal['steps'] = [{'step': 0, 'sub_steps': {'../../secret': {'iterations': 1}}}]
    (folder / 'journal.json').write_text(json.dumps(journal))
    (tmp_path / 'secret').mkdir()
    Image.new('RGB', (300, 300)).save(tmp_path / 'secret/samples.png')
    page = Page(render_report(folder, echo=len))
    assert 'journal.json is damaged' in page.notes
    assert 'What was trained beside the steps' not in page.tables


def test_walks_that_differ_by_their_seed_alone_are_one_row_and_one_band(tmp_path):
    folders = [make_walk(tmp_path / f's{k}', keep=0.5 + 0.1 * k)[0] for k in range(3)]
    folders.append(make_walk(tmp_path / 'ft', method='finetune', keep=0.3)[0])
    for k, folder in enumerate(folders):
        with_journal(folder, fingerprints=dict(method=f'{k // 3}', protocol='p', seed=f'{k}'))
    walks = [read_walk(folder) for folder in folders]
    groups = seed_groups(walks, ['a', 'b', 'c', 'ft'])
    assert [(g.label, len(g.walks)) for g in groups] == [('mib, 3 seeds', 3), ('ft', 1)]
    page = Page(render_comparison(folders, tmp_path / 'out', echo=lambda _: None))
    _check_page(page)
    rows = page.table('Mean ± standard deviation over the seeds')
    values = [100 * walk.miou('all')[-1] for walk in walks]
    mean, deviation = np.mean(values[:3]), np.std(values[:3], ddof=1)
    assert rows[1][:3] == ['mib, 3 seeds', '3', f'{mean:.2f} ± {deviation:.2f}']
    assert rows[2][:3] == ['finetune', '1', f'{values[3]:.2f}']
    assert 'bands of one standard deviation' in page.text
    # Other settings, or none that a journal tells, are other rows.
    with_journal(folders[1], fingerprints=dict(method='x', protocol='p', seed='1'))
    with_journal(folders[2], fingerprints={})
    walks = [read_walk(folder) for folder in folders]
    assert [len(g.walks) for g in seed_groups(walks, 'abcd')] == [1, 1, 1, 1]


def test_tables_are_files_too(tmp_path):
    folder, metrics = make_walk(tmp_path / 'w')
    render_report(folder, echo=lambda _: None)
    rows = list(csv.reader((folder / 'report/tables/steps.csv').open()))
    parts = ['all', 'old', 'new', 'hIoU', 'base', 'later']
    assert rows[0][0] == 'step' and rows[0][-6:] == parts
    # An undefined value is empty.
    assert rows[1][-5] == rows[1][-3] == ''
    assert rows[3][-6] == _percent(metrics['steps'][2]['mIoU']['all'])
    assert '| step |' in (folder / 'report/tables/steps.md').read_text()
    assert r'\begin{tabular}' in (folder / 'report/tables/classes.tex').read_text()


def test_confusion_tells_forgetting_from_confusion(tmp_path):
    folder, metrics = make_walk(tmp_path / 'w')
    shares = dict(old=dict(right=0.5, background=0.3, old=0.125, new=0.075), new=None)
    metrics['steps'][-1]['confusion_shares'] = shares
    (folder / 'metrics.json').write_text(json.dumps(metrics))
    names = metrics['steps'][-1]['seen']
    matrix = np.diag(np.arange(len(names)) + 1).tolist()
    content = json.dumps(dict(classes=names, confusion=[matrix]))
    (folder / 'step_02').mkdir(exist_ok=True)
    (folder / 'step_02/confusion.json').write_text(content)
    page = Page(render_report(folder, echo=lambda _: None))
    _check_page(page)
    rows = page.table('Pixels (%) of old and new classes')
    assert rows[1:] == [['2', 'old', '50.00', '30.00', '12.50', '7.50']]
    assert (folder / 'report/confusion.svg').exists()
    # A damaged file costs the figure alone.
    (folder / 'step_02/confusion.json').write_text('[1')
    page = Page(render_report(folder, echo=lambda _: None))
    assert not (folder / 'report/confusion.svg').exists() and page.table('Pixels (%)')


def test_the_foot_says_how_it_was_made(tmp_path):
    folder, _ = make_walk(tmp_path / 'w')
    with_journal(folder, command=['x/__main__.py', 'train', '--method', 'a b'], seed=7)
    (folder / 'walk_config.py').write_text('lr = 1  # <b>')
    page = Page(render_report(folder, echo=lambda _: None))
    facts = dict(page.table('How it was made')[1:])
    assert facts['command'] == "mmseg-cil train --method 'a b'" and facts['seed'] == '7'
    assert '<pre>lr = 1  # &lt;b&gt;</pre>' in page.text


@pytest.mark.walk
@pytest.mark.skipif(CHROMIUM is None, reason='there is no Chromium')
@pytest.mark.parametrize('width', [390, 1280])
def test_a_browser_shows_the_page(tmp_path, width):
    folders = [make_walk(tmp_path / name, method=name, samples=1)[0] for name in ('mib', 'plop')]
    page = render_comparison(folders, echo=lambda _: None)
    # As the page's own script ends, one that sorts a table and hides a series.
    script = (
        '<script>document.querySelector("thead th:nth-child(3) button").click();'
        'document.querySelector(".toggles button").click();'
        'document.documentElement.dataset.hidden = document.querySelectorAll(".hidden").length;'
        '</script></body>'
    )
    test = tmp_path / 'test.html'
    test.write_text(page.read_text().replace('</body>', script))
    command = [CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--dump-dom']
    command += [f'--window-size={width},900', test.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    head = dom[: dom.index('<head>')]
    assert 'data-ready="yes"' in head and 'data-overflow="false"' in head
    assert 'data-hidden="2"' in head and 'aria-sort="descending"' in dom
