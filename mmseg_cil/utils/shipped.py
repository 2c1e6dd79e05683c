"""Where the files lie that the package ships beside its code."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
#: Where MMEngine looks for what is named ``mmseg_cil::``. A wheel has the files there; in a
#: checkout it is a link to the top level ``configs``.
_INSTALLED = _PACKAGE / '.mim' / 'configs'

#: The folder of the pieces of configs and of ``published.csv``. A checkout whose file system has no
#: links (git then writes a file) has it at its top level only.
CONFIGS = _INSTALLED.resolve() if _INSTALLED.is_dir() else _PACKAGE.parent / 'configs'
