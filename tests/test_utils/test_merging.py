"""Settings by dotted keys: items of lists, settings within each other, and values that stay."""

import pytest
from mmengine.config import Config

from mmseg_cil.utils.merging import merge_options


def test_settings_merge_as_by_mmengine():
    start = dict(a=dict(b=1, c=[dict(x=1), dict(y=2)]), d=3)
    options = {'a.b': 5, 'a.c.1.y': 7, 'a.new.deep': 'text', 'd': [1], 'a.c.0': dict(z=4)}
    cfg, expected = Config(start), Config(start)
    merge_options(cfg, options)
    expected.merge_from_dict(options)
    assert cfg.to_dict() == expected.to_dict()
    assert cfg.a.c == [dict(x=1, z=4), dict(y=7)]


def test_an_item_of_a_list_is_replaced():
    cfg = Config(dict(hooks=[dict(type='A', a=1), dict(type='B')], milestones=[10, 20, 30]))
    merge_options(
        cfg, {'hooks.0': dict(_delete_=True, type='C'), 'milestones.1': 25, 'hooks.1': None}
    )
    assert cfg.hooks == [dict(type='C'), None] and cfg.milestones == [10, 25, 30]


def test_an_item_of_a_list_within_a_list_is_replaced():
    cfg = Config(dict(heads=[dict(losses=[dict(type='A', a=1)], rates=[[1, 2], [3, 4]])]))
    merge_options(
        cfg,
        {'heads.0.losses.0': dict(_delete_=True, type='B'), 'heads.0.rates.1.0': 5},
    )
    assert cfg.heads == [dict(losses=[dict(type='B')], rates=[[1, 2], [5, 4]])]


@pytest.mark.parametrize('turned', [False, True])
def test_the_inner_of_two_settings_holds_in_either_order(turned):
    given = {
        'hooks.0': dict(_delete_=True, type='B', b=1),
        'hooks.0.b': 2,
        'memory._delete_': True,
        'memory.size': 5,
        'loss': dict(type='A', a=1),
        'loss.a': 3,
    }
    options = dict(reversed(given.items())) if turned else given
    cfg = Config(dict(hooks=[dict(type='A')], memory=dict(per='class'), loss=dict(kept=0)))
    merge_options(cfg, options)
    assert cfg.hooks == [dict(type='B', b=2)]
    assert cfg.memory == dict(size=5)
    assert cfg.loss == dict(type='A', a=3, kept=0)


def test_the_given_values_stay_as_they_are():
    options = {'memory': dict(_delete_=True, size=5), 'hooks.0': dict(_delete_=True, type='B')}
    for _ in range(2):
        cfg = Config(dict(hooks=[dict(type='A', a=1)], memory=dict(per='class')))
        merge_options(cfg, options)
        assert cfg.to_dict() == dict(hooks=[dict(type='B')], memory=dict(size=5))
    cfg.hooks[0].type = 'changed'
    assert options['hooks.0'] == dict(_delete_=True, type='B')


@pytest.mark.parametrize(
    'options', [{'hooks.3.a': 1}, {'hooks.3': dict(type='B')}, {'hooks.first': 1}, {'d.e': 1}]
)
def test_what_does_not_fit_is_refused(options):
    with pytest.raises(Exception, match=r'3|indices|type|int'):
        merge_options(Config(dict(hooks=[dict(type='A')], d=3)), options)
