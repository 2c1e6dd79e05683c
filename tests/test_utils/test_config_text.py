"""The text of a config says the same with line breaks as without."""

import ast

import pytest
from mmengine.config import Config

from mmseg_cil.utils.config_text import config_text, with_line_breaks

LONG = 'x' * 40


@pytest.mark.parametrize(
    'text',
    [
        'a = 1\n',
        f'a = dict(b=[{", ".join(map(str, range(60)))}], c=dict(d=("{LONG}", "{LONG}")))\n',
        f"a = {{'{LONG}': 1, 2: ['{LONG}', dict(type='{LONG}', p=(0.5,))]}}\n",
        f'a = dict(**{{"{LONG}.b": 1, "{LONG}.c": -1e-05}}, d="it\'s {LONG} {LONG}")\n',
        f'from a import b\nc = {{1, 2}}\nd = f("{LONG}", "{LONG}", {LONG}, g=lambda: None)\n',
    ],
)
def test_line_breaks_change_nothing_that_it_says(text):
    result = with_line_breaks(text)
    assert ast.dump(ast.parse(result)) == ast.dump(ast.parse(text))
    assert max(map(len, result.splitlines())) <= 100
    assert with_line_breaks(result) == result


def test_a_config_is_read_back_from_it(tmp_path):
    cfg = Config(
        dict(
            model=dict(type='A', heads=[dict(channels=index, name=LONG) for index in range(4)]),
            step_overrides={0: dict(lr=0.1), 'later': {'a.b': (1, 2)}},
        )
    )
    (tmp_path / 'copy.py').write_text(config_text(cfg))
    assert Config.fromfile(tmp_path / 'copy.py').to_dict() == cfg.to_dict()
