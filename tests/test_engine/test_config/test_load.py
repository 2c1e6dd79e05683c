"""Options of the command line that a config takes in."""

import pytest

from mmseg_cil.engine.config.compose import compose
from mmseg_cil.engine.config.load import with_options
from mmseg_cil.errors import InputError
from mmseg_cil.registry import MODELS

PART = """from torch import nn

from mmseg_cil.registry import MODELS


@MODELS.register_module()
class PartOfAnOption(nn.Module):
    pass
"""


def config():
    return compose(dict(method='finetune', protocol='voc_15-5'))


def test_modules_of_an_option_are_imported(tmp_path, monkeypatch):
    (tmp_path / 'parts_of_an_option.py').write_text(PART)
    monkeypatch.syspath_prepend(tmp_path)
    with_options(config(), {'custom_imports': dict(imports=['parts_of_an_option'])})
    assert MODELS.get('PartOfAnOption') is not None


def test_a_module_of_an_option_that_is_not_there_is_told():
    with pytest.raises(InputError, match=r'--cfg-options: custom_imports.*no_such_parts'):
        with_options(config(), {'custom_imports': dict(imports=['no_such_parts'])})
