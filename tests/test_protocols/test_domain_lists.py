"""Domains by patterns and lists: brackets, encodings, names that fit nothing."""

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.protocols import build_protocol

CLASSES = ('background', 'red')


def domains(*entries, **changes):
    config = dict(
        dict(name='weather', dataset='mine', domains=list(entries), strict=False), **changes
    )
    return build_protocol(config, CLASSES)


def steps_of(pattern, names):
    return domains(dict(name='a', pattern=pattern)).image_domains(names).tolist()


@pytest.mark.parametrize(
    ('pattern', 'names', 'expected'),
    [
        ('*_[0-4]', ['p_3', 'p_7', 'x[1]_2'], [0, -1, 0]),
        ('p[0]*', ['p[0]_1', 'p[1]_1', 'q'], [0, -1, -1]),
        ('*[0]*', ['a[0]b', 'c', 'a[1]b'], [0, -1, -1]),
        ('p[0]*', ['p0_1', 'p1_1'], [0, -1]),
        ('p[[]0]*', ['p[0]_1', 'p0_1'], [0, -1]),
        ('[a]/x*', ['[a]/x1', '[b]/x1', 'r/[a]/x2'], [0, -1, 0]),
        ('[!a]*', ['b', 'a', '[!a]'], None),
    ],
)
def test_brackets_are_read_as_the_names_are(pattern, names, expected):
    if expected is None:
        with pytest.raises(InputError, match='brackets in the pattern'):
            steps_of(pattern, names)
    else:
        assert steps_of(pattern, names) == expected


def test_brackets_that_could_mean_either_are_refused():
    with pytest.raises(InputError, match=r"'\*\[0\]\*'.*fits 'a\[0\]b'.*fits 'x10'.*write \[\[\]"):
        steps_of('*[0]*', ['a[0]b', 'x10'])


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'cp1252'])
def test_a_list_of_another_system_names_the_same_images(tmp_path, encoding):
    text = 'sun_1\r\n\r\n sträßchen\\sun_2.PNG \r\n./sun_3.jpg\r\nsun_4.v1\r\n'
    (tmp_path / 'sun.txt').write_bytes(text.encode(encoding))
    protocol = domains(dict(name='sun', list_file=str(tmp_path / 'sun.txt')))
    names = ['train/sun_1', 'sträßchen/sun_2', 'sun_3', 'sun_4.v1', 'sun_5']
    assert protocol.image_domains(names).tolist() == [0, 0, 0, 0, -1]
    assert protocol.unmatched(names) == []
    plain = tmp_path / 'plain.txt'
    plain.write_text('sun_1\nsträßchen/sun_2\nsun_3\nsun_4.v1\n', encoding='utf-8')
    same = domains(dict(name='sun', list_file=str(plain)))
    assert same.fingerprint() == protocol.fingerprint()


def test_names_and_patterns_that_fit_no_image_are_told(tmp_path):
    (tmp_path / 'sun.txt').write_text('a\nlost_1\nlost_2\n')
    protocol = domains(
        dict(name='sun', list_file=str(tmp_path / 'sun.txt')),
        dict(name='rain', pattern=['rain_*', 'wet_*']),
    )
    notes = protocol.unmatched(['x/a', 'b'])
    assert notes == [
        "2 of 3 names in the list of the domain 'sun' are no images of the datasets, such as "
        "'lost_1'",
        "no image is in the domain 'rain' (rain_*, wet_*)",
    ]
    assert build_protocol(dict(name='voc_15-1')).unmatched(['x']) == []


@pytest.mark.parametrize('content', [None, b'', b'\xff\xfe\r\x00\n\x00', b'\0\1\2'])
def test_a_list_of_nothing_is_refused(tmp_path, content):
    path = tmp_path / 'list.txt'
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=r"domain 0 \('sun'\).*list\.txt"):
        domains(dict(name='sun', list_file=str(path)))
