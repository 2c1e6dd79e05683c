"""Names that are like other names to a slip of the keyboard."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def near(name: str, known: Iterable[str]) -> str | None:
    """Return the name that another was probably meant to be; None where none is like it.

    One that only adds a part of its own (``model_2``, ``old_model``) is another name.
    """
    known = list(known)
    plain = name.lower().replace('_', '')
    for candidate in known:
        other = candidate.lower().replace('_', '')
        # Letters that changed places, too.
        if plain == other or (len(plain) > 4 and sorted(plain) == sorted(other)):
            return candidate
    found = difflib.get_close_matches(name.lower(), known, 1, 0.84 if len(name) > 5 else 0.79)
    if not found or re.fullmatch(
        f'({re.escape(found[0])}_?[0-9]+|{re.escape(found[0])}_.*|.*_{re.escape(found[0])})', name
    ):
        return None
    return found[0]
