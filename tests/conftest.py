"""What all tests share."""

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def no_scope_of_an_earlier_test():
    """MMEngine's default scope outlives a test; the next must not depend on it."""
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()
