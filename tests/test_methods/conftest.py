"""Lets the tests of the methods use the small networks of the tests of models."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / 'test_models'))
