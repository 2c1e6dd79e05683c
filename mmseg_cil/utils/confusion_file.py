"""The file in a step's folder that holds the confusion matrices; read without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
NAME = 'confusion.json'


def confusion_content(confusion: Counts, names: Sequence[str]) -> dict[str, Any]:
    """Return the content of a step's ``confusion.json``.

    Args:
        confusion: int64 (D, C, C) [true, predicted]; D is 1, or the number of domains.
        names: (C,) class names by model id.
    """
    return {'classes': list(names), 'confusion': confusion.tolist()}


def read_confusion(content: Any) -> tuple[list[str], Counts] | None:
    """Return the names and the matrices (D, C, C) of a ``confusion.json``; None where it is none.

    Args:
        content: The content of the file, for JSON.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get('classes'), list):
        return None
    names = [str(name) for name in content['classes']]
    try:
        matrices = np.asarray(content.get('confusion'), dtype=np.int64)
    except (ValueError, TypeError, OverflowError):
        return None
    if matrices.ndim != 3 or matrices.shape[1:] != (len(names), len(names)):
        return None
    return names, matrices
