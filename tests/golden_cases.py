"""The stored numbers of the official code, and how far ours are from them."""

from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parent / 'golden'


def load(case):
    """A case by the name or the path of its file: tensors, and plain numbers where it has them."""
    path = GOLDEN / f'{case}.npz' if isinstance(case, str) else case
    return {
        key: torch.from_numpy(value) if value.ndim else value.item()
        for key, value in np.load(path).items()
    }


def files(kind):
    """Runs a test for every case of a kind, of which there are two or more."""
    paths = sorted(GOLDEN.glob(f'{kind}__*.npz'))
    assert len(paths) >= 2
    return pytest.mark.parametrize('path', paths, ids=[path.stem for path in paths])


def deviation(actual, expected):
    """Largest absolute difference over the largest expected value."""
    actual, expected = actual.detach().double(), torch.as_tensor(expected, dtype=torch.float64)
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max() / expected.abs().max())
