"""Lists of names, as editors and spreadsheets write them."""

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.utils.text import read_lines

NAMES = ['sun 1', 'straße', 'a/b,c']


@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize(
    'encoding',
    ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be', 'utf-32', 'latin-1', 'cp1252'],
)
def test_names_are_read_in_any_encoding(tmp_path, encoding, end):
    text = f'{end}{NAMES[0]}  {end}\t{NAMES[1]}{end}   {end}{NAMES[2]}'
    (tmp_path / 'list.txt').write_bytes(text.encode(encoding))
    lines, found = read_lines(tmp_path / 'list.txt')
    assert lines == NAMES
    assert found == {'latin-1': 'cp1252'}.get(encoding, encoding)


def test_a_mark_within_joined_files_is_no_part_of_a_name(tmp_path):
    (tmp_path / 'list.txt').write_bytes('a\n\ufeffb\n'.encode('utf-8-sig') + '街景\n'.encode())
    assert read_lines(tmp_path / 'list.txt') == (['a', 'b', '街景'], 'utf-8-sig')


@pytest.mark.parametrize('content', [b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR', b'a\nb\x00c\nd'])
def test_what_is_no_text_is_refused(tmp_path, content):
    (tmp_path / 'list.txt').write_bytes(content)
    with pytest.raises(InputError, match=r'list\.txt is no list of names'):
        read_lines(tmp_path / 'list.txt')
