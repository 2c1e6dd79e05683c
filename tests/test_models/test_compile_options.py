"""Arguments of PyTorch's compiler, as configs have them for the student and for teachers."""

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.models.compile_options import compile_options, try_compiler


def test_random_numbers_are_those_of_plain_code():
    assert compile_options(True)['options'] == {'fallback_random': True}
    assert compile_options(dict(mode='default'))['options'] == {'fallback_random': True}
    options = compile_options(dict(mode='max-autotune-no-cudagraphs'))['options']
    assert options['fallback_random'] and options['max_autotune']
    assert compile_options(dict(backend='aot_eager')) == dict(backend='aot_eager')
    assert compile_options(False) is compile_options(None) is None


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ('yes', 'must be True, False or a dict'),
        (dict(backnd='eager'), "did you mean 'backend'"),
        (dict(mode='reduce-overhead'), 'CUDA graphs'),
        (dict(mode='fastest'), 'compile.mode'),
    ],
)
def test_wrong_options_are_refused(value, message):
    with pytest.raises(InputError, match=message):
        compile_options(value)


def test_messages_name_the_key_of_the_config():
    with pytest.raises(InputError, match=r'^teacher\.compile has the unknown key'):
        compile_options(dict(backnd='eager'), 'teacher.compile')


def test_a_compiler_that_does_not_work_is_told():
    try_compiler(dict(backend='eager'))
    with pytest.raises(InputError, match='does not work here'):
        try_compiler(dict(backend='no_such_backend'))
