"""Writes docs/published.md, and deviations and figures in the READMEs of the methods.

    python docs/make_published.py [--check]

All is made of two lists, the deviations in mmseg_cil/engine/config/published/deviations.py and the
figures in configs/published.csv, and of the configs as they are. With --check nothing is written,
and the exit status is 1 where a file is not current.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mmseg_cil.engine.config.compose import compose  # noqa: E402
from mmseg_cil.engine.config.published import (  # noqa: E402
    DEVIATIONS,
    FRAMES,
    as_published,
    deviations_of,
)
from mmseg_cil.published_figures import PublishedFigure, read_figures  # noqa: E402

PAGE = ROOT / 'docs/published.md'
READMES = sorted(ROOT.glob('configs/[!_]*/README.md'))
HEAD = (
    '| method | protocol | setting | old | new | all | background | backbone | source |',
    '|---|---|---|---|---|---|---|---|---|',
)

INTRODUCTION = """\
# Published figures, and the papers' settings

*Made by `docs/make_published.py` of the configs, of \
`mmseg_cil/engine/config/published/deviations.py` and of `configs/published.csv`; change those and \
run it.*

Configs that `--method` and `--protocol` compose have MMSegmentation's network and test geometry, \
and the papers' methods, protocols, crops and schedules. `--as-published` turns on what else the \
code of the papers did, for a method and a protocol or for a config file:

```bash
python tools/train.py --method mib --protocol voc_15-1 --as-published
python tools/train.py CONFIG --as-published
```

The log begins with what still differs then; every setting can be had alone, too. A method \
without official code in this frame (VDFD, iCaRL with exemplars, ...) gets what surrounds it: \
network, data, schedule and PLOP's rules for labels. The code of MiB gave the figures of \
fine-tuning, LwF, LwF-MC, ILT and MiB in MiB's paper; PLOP's and RCIL's began as copies of it and \
gave those in theirs, with their own rules for labels and means \
(`--cfg-options protocol.preset=plop`; on protocols that MiB's code has not, the preset takes them).
"""

TRAINING_CROP = """\
## The training crop

A random area of the image, resized, never shows padding and zooms a VOC image by 1.18 to 1.65; \
the random scale with a padded crop, which the configs of VOC and ADE20K had before and which \
`--dataset voc12aug_zoom` and `ade20k_zoom` still have, zooms by 0.78 to 2.63 and pads up to 57 % \
of a crop. In MiB's official loop on real images (short runs, four seeds) the first gave 33.1 mIoU \
and the second 28.0; our walk with the second gave 27.8. Measured again in our walk, longer and \
smaller (MiB, EfficientNet-Lite0, a balanced choice of VOC in three steps of 600, 200 and 200 \
iterations, crops of 112, scored on 181 training images held out, seeds 1 to 3), mIoU of all \
classes was 30.8 with the first (standard deviation 2.1) and 29.9 with the second (2.7), of the \
first classes 39.4 (2.6) and 37.3 (3.1), of later ones 20.1 (1.7) and 20.8 (2.7). Three seeds do \
not tell these apart, and the first is no worse: it is the default.
"""


def escaped(text: str) -> str:
    """Return a text in a cell of a table."""
    return text.replace('|', '\\|')


def deviation_rows() -> Iterator[str]:
    """One row a setting: the papers', that of the configs, and that with the preset."""
    plain = [
        compose(dict(method=method, protocol=protocol))
        for method, frame in FRAMES.items()
        if frame.code and not method.endswith('_paper')
        for protocol in ('voc_joint' if method == 'joint' else 'voc_15-1', 'cityscapes_domain_11-5')
        if not (method == 'joint' and protocol != 'voc_joint')
    ]
    ours: dict[str, dict[str, set[str]]] = {}
    left: dict[str, dict[str, set[str]]] = {}
    for cfg in plain:
        over = cfg.protocol.name.partition('_')[0]
        for found, variant in ((ours, cfg), (left, as_published(cfg))):
            for deviation, text in deviations_of(variant):
                found.setdefault(deviation.name, {}).setdefault(text, set()).add(over)
    for deviation in DEVIATIONS:
        if deviation.name in ours or deviation.name in left:
            cells = (
                deviation.name,
                deviation.theirs,
                named(ours.get(deviation.name)),
                named(left.get(deviation.name)),
                deviation.option or '-',
                deviation.source,
            )
            yield f'| {" | ".join(map(escaped, cells))} |'


def named(found: dict[str, set[str]] | None) -> str:
    """Return what configs have in place of a setting; the dataset where it is Cityscapes alone."""
    texts = [
        f'{text} (Cityscapes)' if over == {'cityscapes'} else text
        for text, over in (found or {}).items()
    ]
    return ', '.join(texts) or 'the same'


def figure_row(figure: PublishedFigure) -> str:
    """Return the row of one figure."""
    means = ('' if value is None else f'{value}' for value in (figure.old, figure.new, figure.all))
    background = {True: 'with', False: 'without', None: ''}[figure.background]
    told = '; '.join(part for part in (figure.source, figure.note) if part)
    cells = (
        figure.method,
        figure.protocol,
        figure.setting,
        *means,
        background,
        figure.backbone,
        told,
    )
    return f'| {" | ".join(map(escaped, cells))} |'


def page() -> str:
    """Return the whole of docs/published.md."""
    lines = [
        INTRODUCTION,
        '## Differences',
        '',
        '| setting | the papers | these configs | with `--as-published` | by itself | their file |',
        '|---|---|---|---|---|---|',
        *deviation_rows(),
        '',
        TRAINING_CROP,
        '## Published figures',
        '',
        "These are the papers', not ours: mIoU after the last step, in per cent, with or without "
        'the background in the means, as far as that is told. `voc_10-1` is `voc_11-1` here, where '
        'the background counts. `legacy` is the split by city that leaks. '
        '`python tools/protocols.py PROTOCOL` prints those of one protocol, and a comparison of '
        'walks shows those of its methods.',
        '',
        *HEAD,
        *map(figure_row, read_figures()),
    ]
    return '\n'.join(lines) + '\n'


def deviations_section(method: str) -> list[str]:
    """Return the deviations of a method's config from the papers, as lines of its README."""
    protocol = 'voc_joint' if method == 'joint' else 'voc_15-1'
    cfg = compose(dict(method=method, protocol=protocol))
    offered = not any(
        distiller.get('auxiliary_loss') for distiller in cfg.method.get('distillers') or ()
    )
    mark = ' \\*'
    legend = ', and `--as-published` takes back those with *' if offered else ''
    return [
        f'`--method {method} --protocol {protocol}` has the following '
        f'([docs/published.md](../../docs/published.md) lists the settings{legend}):',
        '',
        *(
            f'* {text}{mark if deviation.offered and offered else ""}'
            for deviation, text in deviations_of(cfg)
            if deviation.name != 'method'
        ),
    ]


def figures_section(method: str) -> list[str]:
    """Return the published figures of a method, as lines of its README."""
    figures = [figure for figure in read_figures() if figure.method == method]
    if not figures:
        return ['None on segmentation is known to us.']
    told = "These figures are the papers', not ours: mIoU in per cent after the last step."
    return [told, '', *HEAD, *map(figure_row, figures)]


def with_sections(text: str, method: str) -> str:
    """Return the text of a method's README with its made sections as they should be."""
    for name, section in (('deviations', deviations_section), ('figures', figures_section)):
        begin, end = f'<!-- made by docs/make_published.py: {name} -->', '<!-- end -->'
        made = '\n'.join((begin, '', *section(method), '', end))
        text = re.sub(f'{begin}.*?{end}', lambda _, made=made: made, text, count=1, flags=re.S)
    return text


def contents() -> Iterator[tuple[Path, str]]:
    """Every file that is made, or made in part, and what it should hold."""
    yield PAGE, page()
    for path in READMES:
        yield path, with_sections(path.read_text(encoding='utf-8'), path.parent.name)


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description='Write what the configs deviate in.')
    parser.add_argument('--check', action='store_true', help='write nothing')
    check = parser.parse_args().check
    old = [
        (path, text)
        for path, text in contents()
        if not path.is_file() or path.read_text(encoding='utf-8') != text
    ]
    for path, text in old:
        print(f'{"not current" if check else "written"}: {path.relative_to(ROOT)}')
        if not check:
            path.write_text(text, encoding='utf-8')
    return int(check and bool(old))


if __name__ == '__main__':
    sys.exit(main())
