"""Hooks of MkDocs: pages made from other files of the checkout, and links to files without a page.

Pages of methods come from ``configs/METHOD/README.md``, those of the API from lists of modules, and
three from files at the top of the checkout. A link to a file that has no page becomes the name of
the file; a link to a file that does not exist is a warning, which ends a strict build.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mmseg_cil.cli.methods import listed

ROOT = Path(__file__).resolve().parents[2]
LOG = logging.getLogger('mkdocs.hooks.mmseg_cil')
#: Pages that are files of the checkout, by their place in the site.
FROM_ROOT = {
    'architecture.md': 'ARCHITECTURE.md',
    'contributing.md': 'CONTRIBUTING.md',
    'changelog.md': 'CHANGELOG.md',
}
#: The pages of the API: title and modules.
API: Mapping[str, tuple[str, tuple[str, ...]]] = {
    'walks': ('Walks from Python', ('mmseg_cil.api', 'mmseg_cil.visualization.walk_result')),
    'contracts': (
        'Contracts of methods',
        (
            *(
                f'mmseg_cil.contracts.{name}'
                for name in (
                    'losses',
                    'network',
                    'hooks',
                    'records',
                    'method',
                    'freezing',
                    'teacher_form',
                )
            ),
            'mmseg_cil.models.future_rows',
        ),
    ),
    'protocols': (
        'Protocols',
        (
            'mmseg_cil.protocols.build',
            'mmseg_cil.protocols.base',
            'mmseg_cil.protocols.policy',
            'mmseg_cil.protocols.taxonomy',
            'mmseg_cil.protocols.own_data',
            'mmseg_cil.utils.step_context',
        ),
    ),
    'testing': (
        'Tests of your own methods',
        (
            'mmseg_cil.testing.method_checks',
            'mmseg_cil.testing.tiny',
            'mmseg_cil.testing.walks',
            'mmseg_cil.testing.processes',
        ),
    ),
    'hooks': (
        'Hooks',
        (
            'mmseg_cil.methods.ewf.hook',
            'mmseg_cil.methods.vdfd.hook',
            'mmseg_cil.methods.hinge.hook',
            'mmseg_cil.methods.plop.thresholds_hook',
            'mmseg_cil.methods.reminder.hook',
            'mmseg_cil.methods.self_labels.hook',
            'mmseg_cil.hooks.imprint_classifier_hook',
        ),
    ),
    'formulas': (
        'Formulas',
        tuple(
            f'mmseg_cil.methods.{name}.reference'
            for name in (
                'baselines',
                'mib',
                'plop',
                'rcil',
                'm2kd',
                'dkd',
                'vdfd',
                'ewf',
                'reminder',
                'hinge',
                'self_labels',
            )
        ),
    ),
    'scores': (
        'Scores',
        ('mmseg_cil.evaluation.step_scores', 'mmseg_cil.evaluation.continual'),
    ),
    'registries': ('Registries', ('mmseg_cil.registry',)),
}
_LINK = re.compile(r'(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)')


def _methods() -> list[str]:
    """Return the folders of methods, which have a README each."""
    return sorted(path.parent.name for path in (ROOT / 'configs').glob('*/README.md'))


def _list_of_methods() -> str:
    """Return the page that lists the pieces of methods."""
    folders = set(_methods())
    rows = []
    for name, line in listed(ROOT / 'configs' / '_base_' / 'methods').items():
        folder = next((f for f in (name, name.rsplit('_', 1)[0]) if f in folders), None)
        link = f'[{folder}]({folder}.md)' if folder else ''
        rows.append(f'| `{name}` | {line} | {link} |')
    head = '# Methods\n\n`--method NAME` takes one of these; `mmseg-cil methods` lists them, too.\n'
    return '\n'.join([head, '| name | | page |', '|---|---|---|', *rows, ''])


def _api_page(title: str, modules: tuple[str, ...]) -> str:
    parts = [f'# {title}', '']
    for module in modules:
        parts += [f'## {module}', '', f'::: {module}', '    options:']
        parts += ['      show_root_heading: false', '      show_root_toc_entry: false', '']
    return '\n'.join(parts)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages in the places that the navigation leaves for them."""
    methods: list[Any] = ['methods/index.md', *(f'methods/{name}.md' for name in _methods())]
    api: list[Any] = [{title: f'api/{name}.md'} for name, (title, _) in API.items()]
    for entry in config.nav or ():
        for title, place in list(entry.items()):
            entry[title] = (
                {'METHODS': methods, 'API': api}.get(place, place)
                if isinstance(place, str)
                else place
            )
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    made = {place: (ROOT / name).read_text('utf-8') for place, name in FROM_ROOT.items()}
    made['methods/index.md'] = _list_of_methods()
    for name in _methods():
        made[f'methods/{name}.md'] = (ROOT / 'configs' / name / 'README.md').read_text('utf-8')
    for name, (title, modules) in API.items():
        made[f'api/{name}.md'] = _api_page(title, modules)
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    return files


def _source(place: str) -> str:
    """Return the file of the checkout that a page is made of, relative to the checkout."""
    if place in FROM_ROOT:
        return FROM_ROOT[place]
    if place.startswith('methods/') and place != 'methods/index.md':
        return f'configs/{Path(place).stem}/README.md'
    return f'docs/{place}'


def _page_of(path: str) -> str | None:
    """Return the page that shows a file of the checkout; None where there is none."""
    for place, name in FROM_ROOT.items():
        if name == path:
            return place
    if re.fullmatch(r'configs/[^/]+/README\.md', path):
        return f'methods/{path.split("/")[1]}.md'
    if path == 'mmseg_cil/contracts/__init__.py':
        return 'api/contracts.md'
    inside = path.startswith('docs/') and path.endswith(('.md', '.png', '.svg', '.jpg'))
    return path[len('docs/') :] if inside else None


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to pages; those to files without a page become the names of the files."""
    place = page.file.src_uri
    source = _source(place)

    def mended(match: re.Match[str]) -> str:
        target, _, anchor = match['target'].partition('#')
        if not target or re.match(r'[a-z]+:', target) or place in ('methods/index.md',):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).exists():
            LOG.warning("%s links to '%s', and there is no such file", source, match['target'])
            return match[0]
        found = _page_of(path)
        if found is None:
            return f'{match["text"]} (`{path}`)' if match['text'] != path else f'`{path}`'
        relative = os.path.relpath(found, posixpath.dirname(place) or '.')
        return f'{match["image"]}[{match["text"]}]({relative}{"#" + anchor if anchor else ""})'

    parts = re.split(r'(```.*?```)', markdown, flags=re.S)
    return ''.join(part if part.startswith('```') else _LINK.sub(mended, part) for part in parts)
