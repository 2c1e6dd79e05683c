"""What check_method passes, and what it tells."""

import pytest

from mmseg_cil.testing import method_checks
from mmseg_cil.testing.method_checks import check_method


@pytest.mark.walk
def test_a_method_of_the_package_passes(tmp_path):
    check_method('mib', tmp_path)


def test_all_that_fails_is_told(tmp_path, monkeypatch):
    def fail(cfg, folder):
        raise AssertionError(f'{cfg.method.name} is wrong')

    monkeypatch.setattr(method_checks, 'CHECKS', dict(first=fail, second=fail))
    with pytest.raises(AssertionError, match=r'first: .*mib is wrong\nsecond: .*mib is wrong'):
        check_method('mib', tmp_path)
