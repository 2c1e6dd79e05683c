"""The place of the files that the package ships beside its code."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
#: The folder in which MMEngine looks for names with ``mmseg_cil::``. A wheel has the files there;
#: in a checkout the folder is a link to the top level ``configs``.
_INSTALLED = _PACKAGE / '.mim' / 'configs'

#: The folder of the pieces of configs and of ``published.csv``. A checkout on a file system without
#: links (git then writes a file) has the folder at its top level only.
CONFIGS = _INSTALLED.resolve() if _INSTALLED.is_dir() else _PACKAGE.parent / 'configs'
