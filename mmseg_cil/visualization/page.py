"""The page of a report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from mmseg_cil.visualization.tables import Table


@dataclass(frozen=True)
class Picture:
    """A picture of the report, an SVG or a PNG.

    Attributes:
        path: The file.
        caption: The visible line below it.
        alt: The same for those who cannot see it.
        series: Names of the series of an SVG, in the order of its groups ``series-PLACE-...``;
            each has a button that hides it.
        wide: Whether it takes the whole width of the page.
    """

    path: Path
    caption: str
    alt: str
    series: Sequence[str] = ()
    wide: bool = False


@dataclass(frozen=True)
class Details:
    """A text that is folded until somebody opens it.

    Attributes:
        summary: The line that is always there.
        text: The text, shown as it is.
    """

    summary: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        heading: Its title.
        content: Tables, pictures and folded texts, in order.
    """

    heading: str
    content: Sequence[Table | Picture | Details]


#: Tables of more columns take the whole width of the page.
_WIDE = 8
_STYLE = """
:root { color-scheme: light dark; --ink: #1d1f23; --paper: #ffffff; --quiet: #5a606b;
  --line: #d5d9e0; --stripe: #f5f6f8; --note: #fff4d6; --note-line: #b98900; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e7e9ee; --paper: #16181d; --quiet: #a4abb8; --line: #3a3f4a;
    --stripe: #1e2128; --note: #332a10; --note-line: #d9a514; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 100rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem;
  border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
.lead, footer { color: var(--quiet); margin: 0; } footer { margin-top: 3rem; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; }
a { color: inherit; } a:focus-visible, .scroll:focus-visible { outline: 3px solid #0072B2; }
.note { background: var(--note); border-left: 4px solid var(--note-line); margin: 1rem 0;
  padding: .6rem 1rem; } .note ul { margin: .3rem 0 0; padding-left: 1.2rem; }
.scroll { overflow-x: auto; margin: .8rem 0 1.4rem; max-height: 46rem; overflow-y: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem;
  white-space: nowrap; }
th, td { padding: .28rem .7rem; text-align: right; white-space: nowrap; }
th.text, td.text { text-align: left; } td.text { white-space: normal; }
thead th { border-bottom: 2px solid var(--line); position: sticky; top: 0;
  background: var(--paper); }
tbody th { text-align: left; font-weight: 500; } tbody tr:nth-child(even) {
  background: var(--stripe); }
thead button { all: unset; cursor: pointer; } thead button:hover { text-decoration: underline; }
thead button:focus-visible { outline: 3px solid #0072B2; }
th[aria-sort="ascending"] button::after { content: " \\25B2"; }
th[aria-sort="descending"] button::after { content: " \\25BC"; }
section { display: grid; gap: 0 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 38rem), 1fr)); }
section > * { min-width: 0; } section > h2, section > .wide { grid-column: 1 / -1; }
figure { margin: .8rem 0 1.6rem; } figure img, figure svg { display: block; max-width: 100%;
  height: auto; background: #ffffff; border: 1px solid var(--line); border-radius: 6px;
  padding: 8px; } figure svg { width: 100%; }
figcaption { color: var(--quiet); font-size: .92rem; }
.toggles { display: flex; flex-wrap: wrap; gap: .4rem; margin: .4rem 0; }
.toggles button { font: inherit; font-size: .9rem; color: inherit; background: var(--stripe);
  border: 1px solid var(--line); border-radius: 1rem; padding: .15rem .8rem; cursor: pointer; }
.toggles button[aria-pressed="false"] { text-decoration: line-through; color: var(--quiet); }
.hidden { display: none; }
details { margin: .8rem 0; } summary { cursor: pointer; }
pre { overflow-x: auto; background: var(--stripe); padding: .8rem; font-size: .85rem; }
@media print { .scroll { max-height: none; overflow: visible; } nav, .toggles { display: none; }
  section { break-inside: avoid-page; } }
"""
#: Sorts tables by a column and hides series of figures; without scripts the page is complete.
_SCRIPT = """
for (const table of document.querySelectorAll('table')) {
  const body = table.tBodies[0];
  table.querySelectorAll('thead th').forEach((head, column) => {
    const button = document.createElement('button');
    button.textContent = head.textContent;
    head.textContent = '';
    head.append(button);
    button.addEventListener('click', () => {
      const down = head.getAttribute('aria-sort') === 'descending';
      table.querySelectorAll('thead th').forEach(other => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', down ? 'ascending' : 'descending');
      const value = row => row.cells[column].textContent.replace('\\u2212', '-');
      const number = row => parseFloat(value(row));
      const rows = Array.from(body.rows);
      rows.sort((a, b) => {
        const order = Number.isNaN(number(a)) || Number.isNaN(number(b))
          ? (Number.isNaN(number(b)) ? (Number.isNaN(number(a)) ? value(a).localeCompare(value(b))
            : 1) : -1)
          : number(a) - number(b);
        return down ? order : -order;
      });
      body.append(...rows);
    });
  });
}
for (const button of document.querySelectorAll('.toggles button')) {
  button.addEventListener('click', () => {
    const shown = button.getAttribute('aria-pressed') !== 'false';
    button.setAttribute('aria-pressed', String(!shown));
    const figure = button.closest('figure');
    figure.querySelectorAll(`[id*="series-${button.dataset.series}-"]`)
      .forEach(part => part.classList.toggle('hidden', shown));
  });
}
document.documentElement.dataset.ready = 'yes';
document.documentElement.dataset.overflow =
  String(document.documentElement.scrollWidth > document.documentElement.clientWidth + 1);
"""


def html_page(
    title: str, lead: str, sections: Sequence[Section], notes: Sequence[str], footer: str
) -> str:
    """Lays out a report.

    Args:
        title: Heading of the page.
        lead: The line below it.
        sections: The parts; those without content are left out.
        notes: Words on missing things, told at the top; may be empty.
        footer: The last line.

    Returns:
        The text of a page that loads nothing and follows the reader's choice of light or dark. Its
        own script sorts tables and hides series; without scripts the page is complete.

    Raises:
        OSError: A picture cannot be read.
    """
    sections = [section for section in sections if section.content]
    numbers = itertools.count()
    links = ''.join(
        f'<li><a href="#part-{i}">{escape(section.heading)}</a></li>'
        for i, section in enumerate(sections)
    )
    parts = [
        '<!DOCTYPE html>',
        '<html lang="en">',
        '<head>',
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{escape(title)}</title>',
        f'<style>{_STYLE}</style>',
        '</head>',
        '<body>',
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p></header>',
        f'<nav aria-label="Parts of the report"><ul>{links}</ul></nav>',
        _notes(notes),
        '<main>',
        *(_section(i, section, numbers) for i, section in enumerate(sections)),
        '</main>',
        f'<footer><p>{escape(footer)}</p></footer>',
        f'<script>{_SCRIPT}</script>',
        '</body>',
        '</html>',
    ]
    return '\n'.join(part for part in parts if part) + '\n'


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ''
    items = ''.join(f'<li>{escape(note)}</li>' for note in notes)
    return f'<aside class="note" aria-label="Notes"><strong>Notes</strong><ul>{items}</ul></aside>'


def _section(index: int, section: Section, numbers: Iterator[int]) -> str:
    body = '\n'.join(_item(item, numbers) for item in section.content)
    return (
        f'<section id="part-{index}" aria-labelledby="head-{index}">\n'
        f'<h2 id="head-{index}">{escape(section.heading)}</h2>\n{body}\n</section>'
    )


def _item(item: Table | Picture | Details, numbers: Iterator[int]) -> str:
    if isinstance(item, Table):
        return _table(item)
    if isinstance(item, Picture):
        return _picture(item, next(numbers))
    return (
        f'<details class="wide"><summary>{escape(item.summary)}</summary>'
        f'<pre>{escape(item.text)}</pre></details>'
    )


def _table(table: Table) -> str:
    left = table.text_columns | {0}

    def mark(column: int) -> str:
        return ' class="text"' if column in left else ''

    head = ''.join(
        f'<th scope="col"{mark(j)}>{escape(cell)}</th>' for j, cell in enumerate(table.header)
    )
    rows = '\n'.join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + ''.join(f'<td{mark(j)}>{escape(cell)}</td>' for j, cell in enumerate(row[1:], 1))
        + '</tr>'
        for row in table.rows
    )
    wide = ' wide' if len(table.header) > _WIDE else ''
    # A part that scrolls must take the focus, or a keyboard cannot reach its end.
    return (
        f'<div class="scroll{wide}" tabindex="0" role="region" '
        f'aria-label="{escape(table.caption)}">'
        f'<table>\n<caption>{escape(table.caption)}</caption>\n'
        f'<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'
    )


def _picture(picture: Picture, number: int) -> str:
    caption = f'<figcaption>{escape(picture.caption)}</figcaption></figure>'
    if picture.path.suffix != '.svg':
        data = base64.b64encode(picture.path.read_bytes()).decode('ascii')
        source = f'src="data:image/png;base64,{data}"'
        return f'<figure class="wide"><img {source} alt="{escape(picture.alt)}">{caption}'
    buttons = ''.join(
        f'<button type="button" aria-pressed="true" data-series="{place}">{escape(name)}</button>'
        for place, name in enumerate(picture.series)
    )
    toggles = f'<div class="toggles" role="group" aria-label="Shown">{buttons}</div>'
    drawing = _inline(picture.path.read_text(encoding='utf-8'), f'f{number}-', picture.alt)
    wide = ' class="wide"' if picture.wide else ''
    return f'<figure{wide}>{toggles if len(picture.series) > 1 else ""}{drawing}{caption}'


def _inline(svg: str, prefix: str, alt: str) -> str:
    """Return an SVG of matplotlib as a part of a page.

    Args:
        svg: Content of the file.
        prefix: Put before each id, so that no two of a page are the same.
        alt: Description for those who cannot see it.
    """
    svg = svg[svg.index('<svg') :]
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.S)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', '', svg)
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'(href="|url\()#', rf'\1#{prefix}', svg)
    head, _, body = svg.partition('>')
    width = re.search(r' width="([\d.]+)pt"', head)
    head = re.sub(r' (width|height)="[^"]*"', '', head)
    # Points at 96 a 72nd of an inch, and somewhat larger than on paper.
    widest = 1.45 * float(width[1]) if width else 1000.0
    return f'{head} role="img" aria-label="{escape(alt)}" style="max-width:{widest:.0f}px">{body}'
