"""A config's text is read as data: what it says, and nothing is executed."""

import math

import pytest
from mmengine.config import Config

from mmseg_cil.utils.literals import NotPlainError, read_literals


def written(tmp_path, text):
    path = tmp_path / 'walk_config.py'
    path.write_text(text)
    return path


def test_the_text_of_a_config_is_read_back(tmp_path):
    content = {
        'model': {
            'type': 'EncoderDecoder',
            'size': (24, 24),
            'one': (1,),
            'none': None,
            'nested': [[1, -2.5], {'a': (True, False)}, []],
            'text': 'it\'s "so"\n{{ x }}',
        },
        'step_overrides': {0: {'max_iters': 6}, 'later': {'optim_wrapper.optimizer.lr': 1e-5}},
        'empty': {},
        'negative': -1,
        'bytes': b'\x00',
        'data_root': '{{ fileDirname }}/data',
    }
    path = written(tmp_path, Config(content).pretty_text)
    assert read_literals(path) == content
    path = written(tmp_path, Config(content, format_python_code=False).pretty_text)
    assert read_literals(path) == content


def test_what_a_config_text_has_besides(tmp_path):
    found = read_literals(
        written(
            tmp_path,
            '''"""A docstring."""
a = b = float('-inf')
c = dict({0: 1}, x=nan)
kind = torch.optim.SGD
names = {'x', 'y'}
none = set()
''',
        )
    )
    assert found['a'] == found['b'] == -math.inf and math.isnan(found['c']['x'])
    assert found['c'][0] == 1 and found['kind'] == 'torch.optim.SGD'
    assert found['names'] == {'x', 'y'} and found['none'] == set()


@pytest.mark.parametrize(
    'text',
    [
        'import os',
        'from os import path',
        "__import__('os').system('x')",
        "a = __import__('os')",
        "a = [eval('1')]",
        'def f(): pass',
        'class A: pass',
        'a = lambda: 1',
        'a = [i for i in (1, 2)]',
        "a = f'{1}'",
        'a = 1 if True else 2',
        'a.b = 1',
        'a[0] = 1',
        'a = 1 + 1',
        'del a',
        'for i in (): pass',
        'a = dict(**b)',
        'a = {**b}',
        'a = dict([(1, 2)])',
        "a = open('x')",
        'a = (b := 1)',
        'a: int = 1',
        'a += 1',
        'if True:\n    a = 1',
        'a = ...',
        'a = {[]: 1}',
        'a = {{}}',
        'method.update(x=1)',
        'a = -"x"',
        'a = float(x=1)',
        'a = b"x" "y"',
        'a = ' + '[' * 3000 + ']' * 3000,
        'a = (',
        'raise SystemExit',
        'a = b()',
        'a = b.c()',
        "a = float.__class__('x')",
        '\x00',
        'a = float("x")',
    ],
)
def test_anything_else_is_refused(tmp_path, text):
    with pytest.raises((NotPlainError, SyntaxError, ValueError)):
        read_literals(written(tmp_path, text))


def test_the_line_is_named(tmp_path):
    with pytest.raises(NotPlainError, match=r'line 2 is not a plain value: open\(.x.\)'):
        read_literals(written(tmp_path, "a = 1\nb = [open('x')]\n"))
