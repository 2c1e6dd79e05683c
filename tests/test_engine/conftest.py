import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny import make_data


@pytest.fixture(scope='session')
def data_root(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp('tiny_data'))
