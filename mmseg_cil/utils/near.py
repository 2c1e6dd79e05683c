"""Search for the known name of which another name is a misspelling."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def near(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant by another; None where none is similar.

    A name that only adds a part to a known one (``model_2``, ``old_model``) is no misspelling.
    """
    known = list(known)
    plain = name.lower().replace('_', '')
    for candidate in known:
        other = candidate.lower().replace('_', '')
        # Two names with the same letters in another order count as similar, too.
        if plain == other or (len(plain) > 4 and sorted(plain) == sorted(other)):
            return candidate
    found = difflib.get_close_matches(name.lower(), known, 1, 0.84 if len(name) > 5 else 0.79)
    if not found or re.fullmatch(
        f'({re.escape(found[0])}_?[0-9]+|{re.escape(found[0])}_.*|.*_{re.escape(found[0])})', name
    ):
        return None
    return found[0]
