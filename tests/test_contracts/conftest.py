import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / 'test_engine')]

from tiny import make_data  # noqa: E402


@pytest.fixture(scope='session')
def data_root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp('tiny_data'))
