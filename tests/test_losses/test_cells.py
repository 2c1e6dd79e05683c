"""Logits at cells are the enlarged logits at the pixels whose labels the cells have."""

import pytest
import torch

from mmseg_cil.losses.cells import at_cells, logits_at_cells
from mmseg_cil.losses.pixel_statistics import Grid


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize(
    ('small', 'pixels', 'cells'),
    [((4, 5), (16, 20), (4, 5)), ((3, 7), (33, 50), (5, 4)), ((9, 2), (9, 2), (9, 2)),
     ((8, 8), (5, 6), (3, 3)), ((1, 1), (7, 5), (2, 2)), ((4, 4), (8, 8), (11, 3))],
)  # fmt: skip
def test_they_are_those_of_the_nearest_pixels(small, pixels, cells, align_corners):
    torch.manual_seed(0)
    logits, grid = torch.randn(2, 3, *small, dtype=torch.float64), Grid(pixels, align_corners)
    places = torch.arange(pixels[0] * pixels[1]).view(1, *pixels)
    chosen = at_cells(places, cells).flatten()
    expected = grid.enlarge(logits).flatten(2)[..., chosen].unflatten(2, cells)
    torch.testing.assert_close(logits_at_cells(logits, grid, cells), expected)


def test_half_precision_is_computed_in_float32():
    logits = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = logits_at_cells(logits, Grid((16, 16)), (4, 4))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, logits_at_cells(logits.float(), Grid((16, 16)), (4, 4)))


def test_labels_of_all_ids_are_kept():
    labels = torch.tensor([[[0, 255], [150, 65535]]])
    assert torch.equal(at_cells(labels, (2, 2)), labels)
    assert at_cells(labels, (1, 1)).tolist() == [[[0]]]
