"""The registry of protocol families."""

import doctest

import pytest

from mmseg_cil.errors import InputError
from mmseg_cil.protocols import (
    NAMED,
    PROTOCOLS,
    ClassProtocol,
    Family,
    build_protocol,
    families,
    is_by_domain,
)


def test_each_family_says_all_of_itself():
    assert list(PROTOCOLS) == [
        'voc', 'ade20k', 'cityscapes', 'cityscapes_domain', 'voc_real', 'embedded',
    ]  # fmt: skip
    assert PROTOCOLS.of('voc_15-1') is PROTOCOLS['voc']
    assert PROTOCOLS.of('voc_real_15-1') is PROTOCOLS['voc_real']
    assert PROTOCOLS.of('cityscapes_domain_11-5').by_domain and is_by_domain(
        'cityscapes_domain_1-1'
    )
    assert not is_by_domain('cityscapes_14-1') and not is_by_domain('my_domain_1')
    assert PROTOCOLS.of('voc') is None and PROTOCOLS.of('nothing_1-1') is None
    assert len(NAMED) == 26 and NAMED[0] == 'voc_11-5' and 'cityscapes_domain_joint' in NAMED


def test_a_new_family_is_one_entry(monkeypatch):
    monkeypatch.setattr(PROTOCOLS, '_families', dict(PROTOCOLS._families))

    def build(request, family, matched):
        cfg = dict(name='reversed', dataset='own', steps=[['a', 'b'], ['c']])
        assert (request.name, family, matched['first']) == ('own_2-1', 'own', '2')
        return build_protocol(cfg, ['a', 'b', 'c'])

    PROTOCOLS.register(Family('own', build, ('2-1',), dict(dataset='voc12aug')))
    protocol = build_protocol(dict(name='own_2-1'), ['a', 'b', 'c'])
    assert isinstance(protocol, ClassProtocol) and len(protocol.steps) == 2
    with pytest.raises(InputError, match=r'Near to it: own_2-1.*own_X-Y'):
        build_protocol(dict(name='own2-1'))
    with pytest.raises(InputError, match="'own' is registered already"):
        PROTOCOLS.register(Family('own'))


def test_the_examples_are_right():
    result = doctest.testmod(families)
    assert (result.attempted, result.failed) == (4, 0)
