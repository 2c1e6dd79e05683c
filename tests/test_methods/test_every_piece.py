"""Checks of all method pieces, and of those that no other file gives to check_method."""

from pathlib import Path

import pytest

from mmseg_cil.testing.method_checks import CHECKS, check_method

PIECES = sorted(
    path.stem
    for path in (Path(__file__).resolve().parents[2] / 'configs/_base_/methods').glob('*.py')
)
#: Changes of the tiny network for PLOP's official regions, which want maps of 4 x 4 cells.
LARGER_MAPS = {'model.backbone.strides': (1, 1, 1, 1), 'model.backbone.dilations': (1, 1, 1, 1)}
OFFICIAL_REGIONS = (
    'lgkd_paper',
    'plop_ewf_paper',
    'plop_nest_paper',
    'plop_paper',
    'reminder_paper',
)


def changes_of(piece):
    return LARGER_MAPS if piece in OFFICIAL_REGIONS else {}


@pytest.mark.walk
@pytest.mark.parametrize('piece', PIECES)
def test_odd_batches_leave_losses_and_weights_finite(piece, tmp_path):
    check_method(piece, tmp_path, checks=['odd_batches'], **changes_of(piece))


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize(
    'piece',
    [
        'dkd_decomposed_m',
        'lgkd_paper',
        'mib_ewf_paper',
        'mib_ucd_paper',
        'plop_ewf_paper',
        'plop_nest_paper',
        'reminder_paper',
        'star_m',
        'vdfd',
    ],
)
def test_it_does_what_every_method_does(piece, tmp_path):
    checks = [check for check in CHECKS if check != 'odd_batches']
    check_method(piece, tmp_path, checks=checks, **changes_of(piece))
