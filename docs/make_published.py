"""Writes docs/published.md and the deviations in the docstrings of the papers' configs.

    python docs/make_published.py [--check]

Both are made of one list, mmseg_cil/engine/config/published/deviations.py, by looking at the
configs as they are. With --check nothing is written, and the exit status is 1 where something is
not current.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mmengine.config import Config  # noqa: E402

from mmseg_cil.engine.config.compose import compose  # noqa: E402
from mmseg_cil.engine.config.published import (  # noqa: E402
    DEVIATIONS,
    FRAMES,
    as_published,
    deviations_of,
)

PAGE = Path('docs/published.md')
BEGINS = "Deviations from the papers' settings"
#: By which a config file is one with the settings of the papers.
NETWORK = '_deeplabv3_r101-d16_'

INTRODUCTION = """\
# The papers' settings

*Made by `docs/make_published.py` of the configs and of \
`mmseg_cil/engine/config/published/deviations.py`; change those and run it.*

The configs with `_deeplabv3_r101-d16_` in their name have MMSegmentation's network and test \
geometry, and the papers' methods, protocols, crops and schedules. `--as-published` turns on what \
else the code of the papers did, for a method and a protocol or for a config file:

```bash
python tools/train.py --method mib --protocol voc_15-1 --as-published
python tools/train.py configs/rcil/rcil_deeplabv3_r101-d16_ade20k-100-50.py --as-published
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
and the second 28.0; our walk with the second gave 27.8. So the first is the default.
"""


def papers_configs() -> Iterator[Path]:
    """Config files with the settings of the papers."""
    yield from sorted(ROOT.glob(f'configs/[!_]*/*{NETWORK}*.py'))


def paragraph(cfg: Config) -> str:
    """The deviations of a config, as its docstring has them."""
    offered = not any(one.get('auxiliary_loss') for one in cfg.method.get('distillers') or ())
    listed = '; '.join(
        f'{"*" if one.offered and offered else ""}{text}'
        for one, text in deviations_of(cfg)
        if one.name != 'method'
    )
    legend = ' (* --as-published takes them back, docs/published.md)' if offered else ''
    return textwrap.fill(
        f'{BEGINS}{legend}: {listed}.', 80, break_on_hyphens=False, break_long_words=False
    )


def with_deviations(text: str, cfg: Config) -> str:
    """The text of a config file with the paragraph of its deviations as it should be."""
    pattern = re.compile(rf'^{re.escape(BEGINS)}.*?(?=\n\n)', re.M | re.S)
    return pattern.sub(lambda _: paragraph(cfg), text, count=1)


def escaped(text: str) -> str:
    """A text in a cell of a table."""
    return text.replace('|', '\\|')


def deviation_rows() -> Iterator[str]:
    """One row a setting: the papers', that of the configs, and that with the preset."""
    plain = [
        compose(dict(method=method, protocol=protocol))
        for method in FRAMES
        if method != 'plop_paper'
        for protocol in ('voc_joint' if method == 'joint' else 'voc_15-1', 'cityscapes_domain_11-5')
        if not (method == 'joint' and protocol != 'voc_joint')
    ]
    ours: dict[str, dict[str, set[str]]] = {}
    left: dict[str, dict[str, set[str]]] = {}
    for cfg in plain:
        over = cfg.protocol.name.partition('_')[0]
        for found, variant in ((ours, cfg), (left, as_published(cfg))):
            for one, text in deviations_of(variant):
                found.setdefault(one.name, {}).setdefault(text, set()).add(over)
    for one in DEVIATIONS:
        if one.name in ours or one.name in left:
            cells = (
                one.name,
                one.theirs,
                named(ours.get(one.name)),
                named(left.get(one.name)),
                one.option or '-',
                one.source,
            )
            yield f'| {" | ".join(map(escaped, cells))} |'


def named(found: dict[str, set[str]] | None) -> str:
    """What configs have in place of a setting, with the dataset where it is Cityscapes alone."""
    texts = [
        f'{text} (Cityscapes)' if over == {'cityscapes'} else text
        for text, over in (found or {}).items()
    ]
    return ', '.join(texts) or 'the same'


def published(path: Path) -> str | None:
    """The figures that a config's docstring tells; None where there are none."""
    text = path.read_text(encoding='utf-8')
    match = re.search(r'^Published mIoU[^:]*:(.*?)\n(?:Not run|\n)', text, re.M | re.S)
    figures = ' '.join(match[1].split()).rstrip('.') if match else 'none'
    return None if figures.startswith('none') else figures


def figure_rows() -> Iterator[str]:
    """One row a config with published figures."""
    for path in papers_configs():
        figures = published(path)
        if figures:
            method, protocol = path.stem.split(NETWORK)
            yield f'| {method} | {protocol} | {escaped(figures)} |'


def page() -> str:
    """The whole of docs/published.md."""
    lines = [
        INTRODUCTION,
        '## What differs',
        '',
        '| setting | the papers | these configs | with `--as-published` | by itself | their file |',
        '|---|---|---|---|---|---|',
        *deviation_rows(),
        '',
        TRAINING_CROP,
        '## Published figures',
        '',
        'Of the papers, not ours: mIoU over all classes after the last step, in per cent. The '
        'docstring of each config names what it deviates in.',
        '',
        '| method | protocol | figures |',
        '|---|---|---|',
        *figure_rows(),
    ]
    return '\n'.join(lines) + '\n'


def contents() -> Iterator[tuple[Path, str]]:
    """Every file that is made, or made in part, and what it should hold."""
    yield ROOT / PAGE, page()
    for path in papers_configs():
        yield path, with_deviations(path.read_text(encoding='utf-8'), Config.fromfile(path))


def main() -> int:
    """The script."""
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
