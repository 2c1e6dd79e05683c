"""Write the skeleton of a method of your own: ``mmseg-cil new-method NAME``.

The package ``NAME`` (a distiller or a loss, and the config piece that ``--method`` takes) and a
test with the checks of :mod:`mmseg_cil.testing`, which the skeleton passes as it is. Change the
formula, run the test, walk::

    mmseg-cil new-method keep_logits --kind distiller
    python -m pytest test_keep_logits.py
    PYTHONPATH=. mmseg-cil train --method keep_logits/keep_logits.py --protocol embedded_11-5
"""

from __future__ import annotations

import argparse
import importlib.util
import keyword
from pathlib import Path

from mmseg_cil.cli.skeletons import SKELETONS, render
from mmseg_cil.errors import InputError
from mmseg_cil.utils.cli import ToolParser
from mmseg_cil.utils.shipped import CONFIGS


def make_parser(prog: str | None = None) -> ToolParser:
    """Return the parser of the command line."""
    parser = ToolParser(prog=prog, description='Write the skeleton of a method of your own.')
    parser.add_argument('name', help='of the method and its package, such as keep_logits')
    parser.add_argument(
        '--kind',
        choices=list(SKELETONS),
        default='distiller',
        help='a distiller compares the network with that of the last step, a loss reads logits '
        'and labels [distiller]',
    )
    parser.add_argument('--folder', type=Path, default=Path(), help='where to write [here]')
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the files, and print the commands to go on with.

    Raises:
        InputError: The name is invalid or taken, or a file exists already.
    """
    files = write_skeleton(args.name, args.kind, args.folder)
    where = '.' if args.folder == Path() else str(args.folder)
    test, piece = files[-1], files[1]
    print('\n'.join(f'wrote {file}' for file in files))
    print(f'check it:  python -m pytest {test}')
    print(
        f'walk it:   PYTHONPATH={where} mmseg-cil train --method {piece} --protocol embedded_11-5 '
        f'--work-dir work_dirs/{args.name}'
    )


def write_skeleton(name: str, kind: str, folder: Path) -> list[Path]:
    """Write the skeleton of a method.

    Args:
        name: Name of the method and of its package.
        kind: A key of :data:`~mmseg_cil.cli.skeletons.SKELETONS`.
        folder: Folder that will hold the package and its test; made where it is missing.

    Returns:
        The files: the package's ``__init__.py``, the piece, the test.

    Raises:
        InputError: See :func:`run`. Nothing is written then.
    """
    class_name = ''.join(part.capitalize() for part in name.split('_'))
    _check_name(name, f'{class_name}{kind.capitalize()}')
    texts = {folder / path: text for path, text in render(name, class_name, kind).items()}
    for path in (folder / name, *texts):
        if path.exists():
            raise InputError(f'{path} is there already: give another name or --folder')
    (folder / name).mkdir(parents=True)
    for path, text in texts.items():
        path.write_text(text, encoding='utf-8')
    return list(texts)


def _check_name(name: str, part: str) -> None:
    """Refuse a name that is invalid, or that a method, a Python module or a registry has."""
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise InputError(
            f'{name!r} cannot be the name of a method: write small letters, digits and _, such as '
            'keep_logits'
        )
    if (CONFIGS / '_base_' / 'methods' / f'{name}.py').is_file():
        raise InputError(f'there is a method {name} (mmseg-cil methods): give another name')
    if importlib.util.find_spec(name) is not None:
        raise InputError(f'there is a Python module {name}: give another name')
    from mmseg_cil.registry import MODELS

    if MODELS.get(part) is not None:
        raise InputError(
            f"there is a part {part}, as this method's would be called: give another name"
        )
