"""Draw docs/images/settings.svg: which images and labels each setting has at a step.

Run it after a change: python docs/site/draw_settings.py
"""

from __future__ import annotations

from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / 'images' / 'settings.svg'
#: Classes that the three images show.
IMAGES = (('horse',), ('cat', 'horse'), ('horse', 'sheep'))
#: For each setting: whether an image is in, and which classes are labelled.
SETTINGS = {
    'overlapped': (('horse',), ('horse',), ('horse',)),
    'disjoint': (('horse',), ('horse',), None),
    'sequential': (('horse',), ('cat', 'horse'), None),
}
COLOURS = {'horse': '#c05a2e', 'cat': '#3b6fb6', 'sheep': '#3f8f5f'}
HIDDEN = '#9aa0a6'
WIDTH, LEFT, CELL, ROW, TOP = 760, 130, 200, 96, 60


def _text(x: float, y: float, text: str, size: int = 14, weight: str = 'normal') -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" '
        f'font-family="sans-serif" fill="#444">{text}</text>'
    )


def _tile(x: float, y: float, shows: tuple[str, ...], labels: tuple[str, ...] | None) -> list[str]:
    """Return an image as a frame with a disc a class; grey is hidden, crossed is left out."""
    frame = f'<rect x="{x}" y="{y}" width="150" height="64" rx="6" fill="none" stroke="#888"/>'
    parts = [frame]
    for place, name in enumerate(shows):
        cx = x + 40 + 70 * place
        shown = labels is not None and name in labels
        fill = COLOURS[name] if shown else HIDDEN
        opacity = 1 if labels is not None else 0.35
        parts.append(f'<circle cx="{cx}" cy="{y + 26}" r="15" fill="{fill}" opacity="{opacity}"/>')
        parts.append(_text(cx - 18, y + 57, name, 12))
    if labels is None:
        cross = f'M{x} {y}L{x + 150} {y + 64}M{x + 150} {y}L{x} {y + 64}'
        parts.append(f'<path d="{cross}" stroke="#b33" stroke-width="2"/>')
    return parts


def draw() -> str:
    """Return the drawing."""
    height = TOP + ROW * len(SETTINGS) + 30
    parts = [_text(LEFT, 24, 'Step 1: horse is new, cat is old, sheep comes later', 15, 'bold')]
    for row, (name, labels) in enumerate(SETTINGS.items()):
        y = TOP + ROW * row
        parts.append(_text(10, y + 36, name, 15, 'bold'))
        for column, (shows, shown) in enumerate(zip(IMAGES, labels, strict=True)):
            parts += _tile(LEFT + CELL * column, y, shows, shown)
    legend = 'coloured: labelled · grey: labelled background (hidden) · crossed: not in the step'
    parts.append(_text(LEFT, height - 10, legend, 13))
    body = '\n'.join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="Images and labels of a step under three settings">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n{body}\n</svg>\n'
    )


if __name__ == '__main__':
    TARGET.write_text(draw(), encoding='utf-8')
